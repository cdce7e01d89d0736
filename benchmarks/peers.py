"""What choosing costs, method by method: `python benchmarks/peers.py [--small] --json FILE|-`.

Every method of the library at keep=0.2, but those that make the picture smaller, on a model of real shape with random
weights, one image of 2 x 2 tiles and 60 tokens of text; all take turns in one process.  "selection" is choosing and
rebuilding the prompt; "first_token" also has the vision tower with what the method records there, and the prefill,
where methods inside the LLM do their work.
"""

from __future__ import annotations

import argparse
from typing import Any

import record

from herovlm import parse
from herovlm.cli import options
from herovlm.cost import shapes
from herovlm.cost.clock import race
from herovlm.cost.count import counted
from herovlm.cost.run import answering
from herovlm.methods.base import Method

KEEP, BASE, FULL = 0.2, "hero", "full"


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Race all methods."""
    model = record.model(args)
    inputs, vision = shapes.prompt(model), model.config.vision_config
    names = list(dict.fromkeys([BASE, FULL, *options.methods_of(args.methods)]))
    names = [name for name in names if not looks_again(name)]
    asked = {name: record.asked(name, 1.0 if name == FULL else KEEP) for name in names}
    theory = {name: counted(model, inputs, each) for name, each in asked.items()}
    samples = race({name: answering(model, inputs, each) for name, each in asked.items()}, args.rounds)
    results = record.spreads(samples)
    return {
        "keep": KEEP,
        "image": {
            "tiles": theory[BASE]["tiles"],
            "patches": (vision.image_size // vision.patch_size) ** 2,
            "channels": vision.hidden_size,
            "heads": vision.num_attention_heads,
        },
        "base": BASE,
        "ratios": {
            f"selection_over_{BASE}": record.ratios(samples, "selection", BASE),
            f"first_token_over_{BASE}": record.ratios(samples, "first_token", BASE),
            "first_token_over_full": record.ratios(samples, "first_token", FULL),
        },
        "theory": theory,
        "selection": {name: each["selection"] for name, each in results.items()},
        "first_token": {name: each["first_token"] for name, each in results.items()},
        "results": results,
    }


def looks_again(name: str) -> bool:
    """Whether a method sends a smaller picture, which a made-up prompt has no processor for."""
    method = parse(name)
    return isinstance(method, Method) and method.smaller


if __name__ == "__main__":
    methods = {"default": "all", "help": "methods, with commas between"}
    record.main(__doc__, "peers", measure, rounds=5, methods=methods)
