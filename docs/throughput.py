"""Tables of docs/serve.md: requests a second with and without dropping, and where the question is embedded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def table(result: Mapping[str, Any]) -> list[str]:
    """Every way at every number of requests at once, beside vLLM as it is."""
    shared = ", shared with other work" if result["shared"] else ""
    about = (
        f"Measured on a CPU ({result['cores']} cores{shared}), float32, vLLM {result['vllm']}, transformers "
        f"{result['transformers']}: {result['rounds']} rounds of {result['requests']} requests or as many as are sent "
        f"at once, {result['new_tokens']} tokens an answer, the demo's tower in front of a random language model of "
        f"{result['layers']} layers and {result['channels']} channels (`benchmarks/serving.py`)."
    )
    lines = [
        about,
        "",
        "| at once | | tokens of a prompt | requests a second | beside vLLM as it is | waiting, median | 95 % |",
    ]
    lines.append("|---" * 7 + "|")
    lost = []
    for at_once, ways in result["results"].items():
        for way, own in ways.items():
            rate, wait = own["requests_per_second"], own["latency"]
            spread = f"{rate['median']:.2f} ({rate['min']:.2f} .. {rate['max']:.2f})"
            over = f"{own['over_stock']:.2f}x"
            waits = f"{wait['median']:.2f} s | {wait['p95']:.2f} s"
            lines.append(f"| {at_once} | {way} | {own['prompt_tokens']} | {spread} | {over} | {waits} |")
            if own["over_stock"] < 1 and way != "vLLM as it is":
                lost.append(f"{way} at {at_once} ({over})")
    if lost:
        lines += ["", f"**Where it does not pay**: {', '.join(lost)}."]
    return lines


def question(result: Mapping[str, Any]) -> list[str]:
    """What embedding a question costs, beside what the front end does anyway."""
    took, over = result["results"], result["ratios"]
    ways = {
        "a picture of 1000 x 750 becomes tiles: the front end, in any case": "pixels",
        "a question is embedded by itself: what would come on top": "alone",
        f"{result['at_once']} questions in one pass, each: the worker": "together",
        "a question that was embedded before": "again",
    }
    lines = [
        f"The text tower of CLIP ViT-L/14-336, random weights, a question of {result['tokens']} tokens; "
        f"{result['clock']} time of {result['threads']} thread of a CPU, medians of {result['rounds']} rounds, "
        f"torch {result['torch']}, transformers {result['transformers']} (`benchmarks/question.py`).",
        "",
        "| what | milliseconds | over the picture |",
        "|---|---|---|",
    ]
    return lines + [f"| {what} | {1000 * took[way]['median']:.1f} | {over[way]:.2f} |" for what, way in ways.items()]
