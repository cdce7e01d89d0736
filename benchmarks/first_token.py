"""Time to the first token beside the ideal: `python benchmarks/first_token.py [--small] --json FILE|-`.

A model of real shape with random weights (the whole vision tower; as many LLM layers as are asked for), one image of
2 x 2 tiles and 60 tokens of text.  At each keep two ways take turns in one process:

hero    `herovlm.drop` and `generate`: the tower with HERO's signals, choosing, rebuilding the prompt, prefill
ideal   the same model given that many visual positions, chosen by nobody: tower, projector and packing of the
        unmodified model over the whole image, then `generate` on a prompt made beforehand with random features

Any method that chooses by what the tower sees pays for the ideal; "first_token_over_ideal" is what HERO adds.  With few
LLM layers the tower is a larger part of the whole, the ratio stricter in its share of selection, and the speed-up
smaller than that of the whole model.
"""

from __future__ import annotations

import argparse
from typing import Any

import record

from herovlm.budget import Share
from herovlm.cost import shapes
from herovlm.cost.clock import Way, race, ratio
from herovlm.cost.count import counted
from herovlm.cost.run import answering, ideal

METHOD = "hero"


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Race HERO and the ideal at every keep."""
    model = record.model(args)
    inputs = shapes.prompt(model)
    theory = {keep: counted(model, inputs, record.asked(METHOD, keep)) for keep in record.KEEPS}
    ways: dict[str, Way] = {}
    for keep, counts in theory.items():
        positions = Share(keep).of(counts["of"])
        ways[f"{METHOD}@{keep}"] = answering(model, inputs, record.asked(METHOD, keep))
        ways[f"ideal@{keep}"] = ideal(model, inputs, positions)
    samples = race(ways, args.rounds)
    first = {name: of["first_token"] for name, of in samples.items()}
    return {
        "method": METHOD,
        "ratios": {
            "first_token_over_ideal": {k: ratio(first[f"{METHOD}@{k}"], first[f"ideal@{k}"]) for k in record.KEEPS},
            "speedup": {k: ratio(first[f"{METHOD}@1.0"], first[f"{METHOD}@{k}"]) for k in record.KEEPS},
            "speedup_in_theory": {k: theory[1.0]["first_token"] / theory[k]["first_token"] for k in record.KEEPS},
        },
        "theory": theory,
        "results": record.spreads(samples),
    }


if __name__ == "__main__":
    record.main(__doc__, "first_token", measure, rounds=9)
