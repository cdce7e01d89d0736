"""The tables of docs/systems/age_vlm.md, from their committed result file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS = ("all", "fine", "reverse", "existence", "counting", "spatial")
WAYS = {"plain": "", "control": " + control", "memory": " + age_vlm"}


def recalled(result: Mapping[str, Any]) -> list[str]:
    """Accuracy by kind in every way, what memory buys beside both yardsticks, and what it takes."""
    found, full = result["results"], result["results"]["full@1.0 plain"]
    lines = [
        f"Exact match in percent on {result['scenes']:,} held-out scenes ({result['questions']:,} questions), 95 % "
        "bootstrap intervals over scenes in brackets.",
        "",
        "| | " + " | ".join(KINDS) + " | tokens read | looked up |",
        "|---|" + "---|" * (len(KINDS) + 2),
    ]
    for name, own in found.items():
        method, way = name.split()
        cells = [f"{own['all']['accuracy']:.1f} {own['all']['interval95']}"]
        cells += [f"{own[kind]['accuracy']:.1f}" for kind in KINDS[1:]]
        cells += [f"{own['mean_positions']:.0f}", f"{own['mean_tokens']:.0f}" if own["mean_tokens"] else ""]
        lines.append(f"| `{method}`{WAYS[way]} | " + " | ".join(cells) + " |")
    lines += ["", "Differences, of the same scenes:", "", "| | " + " | ".join(KINDS) + " |"]
    lines.append("|---|" + "---|" * len(KINDS))
    for name, own in result["differences"].items():
        cells = [f"{own[kind]['difference']:+.1f} {own[kind]['interval95']}" for kind in KINDS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, "", *taken(result, found, full)]


def taken(result: Mapping[str, Any], found: Mapping[str, Any], full: Mapping[str, Any]) -> list[str]:
    """What it takes: time, and bytes."""
    size, first = result["bytes"], next(name.split()[0] for name in found if name.endswith("memory"))
    plain, memory = (found[f"{first} {way}"]["seconds_a_question"] for way in ("plain", "memory"))
    kib = {
        what: found[f"{first} memory"]["mean_tokens"] * size[what] / 1024 for what in ("memory_token", "cache_position")
    }
    return [
        f"Time of the language model for a question with its answer, one pass, the processor's own clock: "
        f"{1e3 * full['seconds_a_question']:.0f} ms with all positions, {1e3 * plain:.0f} with `{first}`, "
        f"{1e3 * memory:.0f} with its memory ({result['machine']}, float32).  In bfloat16 a token of the memory takes "
        f"{size['memory_token']:,} bytes as keys and values, and a position of the prompt {size['cache_position']:,} "
        f"in the cache: {kib['memory_token']:.0f} KiB a prompt for the memory of `{first}`, where leaving these tokens "
        f"out of the prompt saves {kib['cache_position']:.0f} KiB.  The parts are "
        f"{size['parameters']:,} parameters.",
    ]
