"""Tables of what IGVA is worth on the demo model, from benchmarks/results/igva.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WAYS = {"plain": "as it is", "control": "projector trained on", "igva": "IGVA"}
SHOWN = {"full@1.0": "everything is kept", "hero@0.2": "`hero`, keep=0.2"}


def accuracy(result: Mapping[str, Any]) -> list[str]:
    """Accuracy of the three models by kind of question, and what IGVA adds to the control."""
    lines = [
        f"Right answers in percent on {result['scenes']:,} held-out scenes ({result['questions']:,} questions), 95 % "
        "bootstrap intervals over scenes in brackets.  The difference is paired by scene; **bold** where its interval "
        "leaves out 0.",
    ]
    for config, told in SHOWN.items():
        head = [told, *WAYS.values(), "IGVA - projector trained on"]
        lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for kind, found in result["results"][config].items():
            cells = [_with(found[way]["accuracy"], found[way]["interval95"]) for way in WAYS]
            lines.append(f"| {' | '.join([kind, *cells, _change(found['igva - control'])])} |")
    return lines


def weights(result: Mapping[str, Any]) -> list[str]:
    """Which group each kind of question asks for."""
    groups = [f"blocks {group[0] - 1} to {group[-1] - 1}" for group in result["groups"]]
    lines = [f"| mean weight | {' | '.join(groups)} |", "|---" * (1 + len(groups)) + "|"]
    for kind, found in result["weights"].items():
        pairs = zip(found["mean"], found["deviation"], strict=True)
        lines.append(f"| {kind} | {' | '.join(f'{mean:.2f} ± {deviation:.2f}' for mean, deviation in pairs)} |")
    return lines


def _with(value: float, interval: list[float]) -> str:
    low, high = interval
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _change(found: Mapping[str, Any]) -> str:
    low, high = found["interval95"]
    difference = f"{found['difference']:+.1f}"
    return f"{difference if low <= 0 <= high else f'**{difference}**'} [{low:+.1f}, {high:+.1f}]"
