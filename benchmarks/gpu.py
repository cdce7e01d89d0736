"""All benchmarks on one GPU, and attention by batch: `python benchmarks/gpu.py [--small] --json FILE|-`.

The whole shape (llava-next-7b unless --shape says otherwise) with random weights in bfloat16.  Times are CUDA events,
memory is what CUDA's allocator gave.  "attention": all positions and a fifth of them, batches of 1 to 16, with every
implementation that is installed.  Without a GPU everything runs small, on the CPU.
"""

from __future__ import annotations

import argparse
import gc
from typing import Any

import first_token
import growth
import memory
import peers
import record
import signals
import torch
from transformers.utils import is_flash_attn_2_available

from herovlm.cost import shapes
from herovlm.cost.survey import survey

PARTS = {"signals": signals, "first_token": first_token, "peers": peers, "memory": memory, "growth": growth}
PLAN = (("full", 1.0), ("hero", 0.2))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run every part, one model at a time."""
    args.child = None
    found: dict[str, Any] = {}
    for name in args.parts.split(","):
        found[name] = attention(args) if name == "attention" else PARTS[name].measure(args)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return {"ratios": {name: part["ratios"] for name, part in found.items()}, **found}


def attention(args: argparse.Namespace) -> dict[str, Any]:
    """Survey every batch size with every implementation of attention."""
    flash = torch.cuda.is_available() and is_flash_attn_2_available()
    implementations = ["sdpa", "eager"] + ["flash_attention_2"] * flash
    batches = (1, 2) if args.small else (1, 2, 4, 8, 16)
    model = record.model(args)
    side = model.config.vision_config.image_size
    size = (side, side) if args.small else (2 * side, 2 * side)  # eager attention on a CPU takes its time
    found: dict[str, Any] = {}
    for name in implementations:
        model.set_attn_implementation(name)
        for batch in batches:
            how: dict[str, Any] = {"rounds": args.rounds, "question": shapes.QUESTION}
            try:
                how["new_tokens"] = (1, 4 if args.small else 64)
                found[f"{name}, batch {batch}"] = survey(model, shapes.prompt(model, batch, size), PLAN, **how)
            except torch.OutOfMemoryError:
                found[f"{name}, batch {batch}"] = {"rows": [], "refused": [{"error": "out of memory"}]}
    faster = {name: {str(row["keep"]): row.get("faster") for row in each["rows"]} for name, each in found.items()}
    return {"implementations": implementations, "ratios": {"faster": faster}, "results": found}


if __name__ == "__main__":
    cuda = torch.cuda.is_available()
    parts = {"default": ",".join([*PARTS, "attention"]), "help": "which parts, with commas between"}
    methods = {"default": "all", "help": "methods of the part peers"}
    record.main(__doc__, "gpu", measure, rounds=9, device="cuda" if cuda else "cpu", parts=parts, methods=methods)
