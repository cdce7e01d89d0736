"""The tables of examples in context, for docs/systems/caer.md, from their committed result file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _share(found: Mapping[str, Any]) -> str:
    low, high = found["interval95"]
    return f"{found['accuracy']:.1%} [{low:.1%}, {high:.1%}]"


def found(result: Mapping[str, Any]) -> list[str]:
    """How well examples are found, by what is looked at."""
    lines = [
        f"| looked at | the nearest has the same feeling | a vote of {result['shots']} is right | mAP of the vote |",
        "|---|---|---|---|",
    ]
    for name, one in result["retrieval"].items():
        lines.append(f"| {name} | {_share(one['nearest'])} | {_share(one['vote'])} | {one['map']:.3f} |")
    return [
        *lines,
        "",
        f"{result['people']} held-out figures, a pool of {result['pool']}, the demo model's CLIP, which was trained on "
        "boards alone; 95 % bootstrap intervals.  Chance is one of eight, 12.5 %.",
    ]


def budgets(result: Mapping[str, Any]) -> list[str]:
    """What budgets of the examples save, and how far they move the model."""
    whole = result["budgets"]["full 1.0|1.0"]
    lines = [
        "| examples keep | query keeps | method | visual positions | prompt | first token | divergence | same token |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in result["budgets"].items():
        method, _, shares = name.partition(" ")
        examples, _, query = shares.partition("|")
        seconds = one["look_seconds"] + one["first_seconds"]
        low, high = one["divergence95"]
        apart = "0" if one is whole else f"{one['divergence']:.2f} [{low:.2f}, {high:.2f}]"
        same = "100%" if one is whole else _share(one["same_first"])
        counts = f"{one['positions']:,.0f} | {one['length']:,.0f}"
        kept = f"{examples.replace(',', ', ')} | {query} | `{method}`"
        lines.append(f"| {kept} | {counts} | {seconds:.2f} s | {apart} | {same} |")
    return [
        *lines,
        "",
        f"Mean over {result['asked']} held-out figures with {result['shots']} examples each; prompt: all positions "
        "that the language model reads, words too; first token: median seconds of the processor, one thread of a CPU, "
        f"of which {whole['look_seconds']:.2f} s look at {result['shots'] + 1} pictures whatever is kept; divergence: "
        "Kullback-Leibler, in nats, of the first token's probabilities from those of the untouched prompt, with 95 % "
        f"bootstrap intervals.  transformers {result['transformers']}, torch {result['torch']}; `{result['command']}`.",
    ]
