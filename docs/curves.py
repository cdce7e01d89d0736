"""Draw docs/ablation.svg and docs/auto.svg from the committed results: `python docs/curves.py`."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from herovlm.methods.hero_plus import HeroPlus

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks/results"
FIELDS = ("low_layers", "high_layers", "alpha", "thumbnail", "novelty", "overview")
COLOURS = ("#1b4965", "#3e8e7e", "#c98b2b", "#b23a48")  # dark to warm: much kept to little kept
PLUS = HeroPlus()
TODAY = {"novelty": PLUS.novelty, "overview": PLUS.overview, "alpha": PLUS.alpha}  # drawn as points of their own


def value_of(name: str) -> float | None:
    """ "alpha=0.5" -> 0.5, "low_layers=(0.64,)" -> 0.64; None for several layers."""
    value = ast.literal_eval(name.partition("=")[2])
    if isinstance(value, tuple):
        return float(value[0]) if len(value) == 1 else None
    return float(value)


def ablation(result: dict[str, Any]) -> None:
    """A panel a field, a line a keep, today's `hero_plus` dotted."""
    figure, panels = plt.subplots(2, 3, figsize=(10, 5.6), sharey=True, layout="constrained")
    base = result["variations"]["hero_plus"]
    for panel, field in zip(panels.flat, FIELDS, strict=True):
        points = {value_of(n): of for n, of in result["variations"].items() if n.startswith(f"{field}=")}
        points.pop(None, None)
        points |= {TODAY[field]: base} if field in TODAY else {}
        for colour, keep in zip(COLOURS, base, strict=True):
            panel.axhline(base[keep]["accuracy"], color=colour, lw=0.9, ls=":")
            line = sorted((value, of[keep]["accuracy"]) for value, of in points.items() if keep in of)
            panel.plot(*zip(*line, strict=True), color=colour, marker="o", ms=3.5, lw=1.6, label=f"keep={keep}")
        panel.set_title(field, loc="left", fontsize=10, family="monospace")
        panel.grid(axis="y", lw=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[:, 0]:
        panel.set_ylabel("accuracy, %")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(DOCS / "ablation.svg", metadata={"Date": None})


def auto(result: dict[str, Any]) -> None:
    """Promised against real loss with intervals, and what each promise keeps."""
    told = {float(n.removeprefix("loss ")): one for n, one in result["held_out"].items() if n.startswith("loss ")}
    promised = [100 * loss for loss in told]
    real = [100 * one["loss"] for one in told.values()]
    ends = [[abs(100 * one["interval95"][k] - r) for one, r in zip(told.values(), real, strict=True)] for k in (0, 1)]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    left.plot([0, max(promised)], [0, max(promised)], color="#999", lw=1, ls="--", label="as promised")
    left.errorbar(promised, real, ends, color=COLOURS[0], marker="o", ms=4, lw=1.6, capsize=2, label="held-out scenes")
    left.set(xlabel="promised loss, %", ylabel="real loss, %", xlim=0, ylim=0)
    left.legend(frameon=False)
    right.plot(promised, [one["mean_keep"] for one in told.values()], color=COLOURS[1], marker="o", ms=4, lw=1.6)
    right.set(xlabel="promised loss, %", ylabel="mean keep", xlim=0, ylim=0)
    for panel in (left, right):
        panel.grid(lw=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(DOCS / "auto.svg", metadata={"Date": None})


if __name__ == "__main__":
    mpl.rcParams |= {"svg.hashsalt": "herovlm", "font.size": 9}
    for name, draw in {"ablation": ablation, "auto": auto}.items():
        draw(json.loads((RESULTS / f"{name}.json").read_text("utf-8")))
