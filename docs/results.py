"""Tables of measured numbers for README.md, read from the committed result files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks/results"
ORDER = ("hero", "uniform", "random", "pool", "thumbnail")


def tables() -> dict[str, list[str]]:
    """Every block of measured numbers: name of the block -> its lines."""
    return {"accuracy": accuracy(_read("demo_accuracy")), "signals": signals(_read("signals"))}


def accuracy(result: Mapping[str, Any]) -> list[str]:
    """Exact match by method and keep, with the interval of each."""
    configs = result["configs"]
    keeps = sorted({name.rpartition("@")[2] for name in configs} - {"1.0"}, key=float, reverse=True)
    full = configs["full@1.0"]
    lines = [
        f"Exact match in percent on {full['scenes']:,} held-out scenes ({full['questions']:,} questions), "
        f"95 % bootstrap intervals in brackets.  The full model, {result['mean_positions_full']:.0f} visual positions "
        f"on average: **{_cell(full)}**.",
        "",
        "| method | " + " | ".join(f"keep={keep}" for keep in keeps) + " |",
        "|---|" + "---|" * len(keeps),
    ]
    for name in ORDER:
        cells = [_cell(configs[f"{name}@{keep}"]) if f"{name}@{keep}" in configs else "" for keep in keeps]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    kinds = [kind for kind in ("fine", "reverse", "existence", "counting", "spatial") if kind in full]
    lines += ["", "By kind of question:", "", "| | " + " | ".join(kinds) + " |", "|---|" + "---|" * len(kinds)]
    for name in ("full@1.0", "hero@0.2", "uniform@0.2", "random@0.2", "thumbnail@0.2"):
        if name in configs:
            lines.append(f"| `{name}` | " + " | ".join(f"{configs[name][kind]:.1f}" for kind in kinds) + " |")
    return lines


def signals(result: Mapping[str, Any]) -> list[str]:
    """What HERO's signals cost, one sentence."""
    ratios = result["ratios"]
    return [
        f"Seeing with HERO's signals takes {ratios['signals_over_tower']:.2f} times as long as the plain vision tower; "
        f"the way of the authors' code takes {ratios['authors_over_tower']:.1f} times (CLIP ViT-L/14-336 shape, random "
        f"weights, 5 tiles, bfloat16, {result['threads']} CPU threads; medians of {result['rounds']} interleaved "
        f"rounds in one process)."
    ]


def _cell(summary: Mapping[str, Any]) -> str:
    low, high = summary["interval95"]
    return f"{summary['accuracy']:.1f} [{low:.1f}, {high:.1f}]"


def _read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
