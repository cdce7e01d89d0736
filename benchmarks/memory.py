"""What the KV cache and a whole answer hold: `python benchmarks/memory.py [--small] --json FILE|-`.

At each keep a process of its own makes the model (real shape, random weights), answers one question about an image of 2
x 2 tiles with HERO and 16 new tokens, and measures:

cache     bytes of the keys and values that the model holds at the end, beside the arithmetic from the config
          (2 x layers x key/value heads x head width x positions x bytes of a number)
peak      peak memory of `drop` and `generate`, weights included; "above" is what they added to what was held before
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

import record
import torch

import herovlm
from herovlm.cost import memory, shapes, theory
from herovlm.cost.count import held
from herovlm.seams.compat import cache_in

NEW_TOKENS, METHOD = 16, "hero"


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure each keep in a process of its own."""
    if args.child is not None:
        return one(args, args.child)
    results = {}
    for keep in (1.0, 0.2, 0.05) if args.small else record.KEEPS:
        options = {name: getattr(args, name) for name in ("shape", "dtype", "attention", "device")}
        options |= {"llm-layers": args.llm_layers, "threads": torch.get_num_threads(), "child": keep}
        words = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
        done = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True)
        results[keep] = json.loads(done.stdout)["result"]
    whole = results[1.0]
    return {
        "method": METHOD,
        "new_tokens": NEW_TOKENS,
        "exact": all(each["cache_bytes"] == each["cache_bytes_in_theory"] for each in results.values()),
        "ratios": {
            name: {keep: round(each[name] / whole[name], 4) for keep, each in results.items()}
            for name in ("cache_bytes", "peak_bytes", "above_bytes")
        },
        "results": results,
    }


def one(args: argparse.Namespace, keep: float) -> dict[str, Any]:
    """Answer once and say what was held."""
    model = record.model(args)
    inputs = shapes.prompt(model)
    with memory.peak(model.device) as peak:
        short = herovlm.drop(model, inputs, method=METHOD, keep=keep, question=shapes.QUESTION)
        length = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}
        out = model.generate(**short, **length, do_sample=False, return_dict_in_generate=True)
    positions = short["input_ids"].shape[1] + NEW_TOKENS - 1  # the last token is never read
    counted = theory.cache(model.config.get_text_config(), positions, model.dtype.itemsize)
    result = {
        "visual_positions": short.kept[0].positions,
        "positions": positions,
        "cache_bytes": held(cache_in(out)),
        "cache_bytes_in_theory": counted,
        "peak_bytes": peak.bytes,
        "above_bytes": peak.above,
        "weights_bytes": sum(weight.nbytes for weight in model.parameters()),
    }
    return {"result": result}


if __name__ == "__main__":
    child = {"type": float, "help": argparse.SUPPRESS}
    record.main(__doc__, "memory", measure, rounds=1, child=child)
