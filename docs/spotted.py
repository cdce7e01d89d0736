"""The table of docs/systems/chain_of_spot.md: a crop against more tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def spotted(result: Mapping[str, Any]) -> list[str]:
    """One table for each size of pictures."""
    lines = [
        f"One fine-text question of each of {result['scenes']} held-out scenes; exact match in percent with its 95 % "
        "bootstrap interval; positions are visual ones, of all passes of the language model together; a hit is a crop "
        "that holds all of the label asked for, IoU is with a square of one tile around the thing; ways without a "
        "`roi` have the module `chain_of_spot` attached, and the model writes the box; processor seconds "
        f"from pixels to answer (median, {result['threads']} thread, torch {result['torch']}, transformers "
        f"{result['transformers']}, {result['machine']}, {result['language_model']}).",
    ]
    for pictures, ways in result["results"].items():
        lines += ["", f"Pictures {pictures}:", ""]
        lines += ["| way | accuracy | positions | passes | hit | whole picture | IoU | seconds |", "|---" * 8 + "|"]
        for way, one in ways.items():
            low, high = one["interval95"]
            boxes = [f"{one[name]}" if name in one else "" for name in ("hit", "whole", "iou")]
            took = "" if one["seconds"] is None else f"{one['seconds']:.2f}"
            cells = (f"`{way}`", f"{one['accuracy']} [{low}, {high}]", f"{one['positions']:.0f}", f"{one['passes']:g}")
            lines.append(f"| {' | '.join([*cells, *boxes, took])} |")
    return lines
