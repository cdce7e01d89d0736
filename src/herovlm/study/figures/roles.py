"""Figures of finding 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from herovlm.study.figures.base import EARLY, GREY, INK, LATE, Drawn, Numbers, bars, draw, quiet
from herovlm.study.measure.probes import PICKED
from herovlm.study.measure.roles import KEEPS

WAYS = {  # thumbnail / local tiles, the paper's first
    "late/early": ("late / early, the paper's", LATE),
    "early/early": ("early / early", EARLY),
    "late/late": ("late / late", "#7b5ea7"),
    "early/late": ("early / late, swapped", "#8fb8de"),
}
STAGE = {"early": EARLY, "late": LATE, "random": GREY}
READ = {"class": "class of the patch", "digit": "digit of its label", "count": "items in the picture"}


def ways(found: Numbers, folder: Path) -> Drawn:
    """Draw the accuracy of all four ways by kind of question, at every keep and for every pair of stages."""
    pairs = found["pairs"]

    def paint(figure: Any) -> None:
        grid = figure.subplots(len(KEEPS), len(pairs), squeeze=False, sharey=True)
        for column, (pair, values) in enumerate(pairs.items()):
            for row, keep in enumerate(KEEPS):
                axes = grid[row][column]
                kinds = ["all", *values["ways"][f"late/early@{keep}"]["kinds"]]
                for n, (way, (label, colour)) in enumerate(WAYS.items()):
                    scores = values["ways"][f"{way}@{keep}"]
                    numbers = [scores["accuracy"], *(kind["accuracy"] for kind in scores["kinds"].values())]
                    bars(axes, [x + 0.2 * (n - 1.5) for x in range(len(kinds))], numbers, colour, 0.19, label)
                _full(axes, found["full"])
                axes.set_xticks(range(len(kinds)), kinds)
                axes.set_title(f"{pair} blocks, keep={keep}", loc="left", fontsize=9, fontweight="bold")
                axes.set(ylim=(0, 1.05), ylabel="" if column else "accuracy")
                quiet(axes)
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)

    caption = (
        "Accuracy when the tokens of thumbnail / local tiles are chosen by early or by late blocks, with 95 % "
        "intervals. Black dashes: the full model."
    )
    return draw(folder, "roles-ways", caption, (max(7.0, 5.6 * len(pairs)), 2.5 * len(KEEPS) + 0.5), paint)


def probes(found: Numbers, folder: Path) -> Drawn:
    """Draw what linear probes read from single tokens, by how the tokens were picked."""
    pairs = found["probes"]

    def paint(figure: Any) -> None:
        panels = figure.subplots(1, len(pairs), squeeze=False, sharey=True)[0]
        for axes, (pair, values) in zip(panels, pairs.items(), strict=True):
            for n, how in enumerate(PICKED):
                scores = [_number(values["probes"][name][how]) for name in READ]
                bars(axes, [x + 0.27 * (n - 1) for x in range(len(READ))], scores, STAGE[how], 0.25, f"{how}-picked")
            axes.axhline(0, color=INK, linewidth=0.8)
            axes.set_ylim(-0.3, 1.05)  # an R² below that is no news
            axes.set_xticks(range(len(READ)), READ.values())
            axes.set_title(f"{pair} blocks", loc="left", fontsize=9, fontweight="bold")
            axes.set_ylabel("balanced accuracy; R² of items" if axes is panels[0] else "")
            quiet(axes)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)

    caption = (
        "Linear probes on single tokens, tested on pictures they were not trained on: class and digit from tokens of "
        "local tiles (balanced accuracy), the number of items from tokens of the thumbnail (R²), with 95 % intervals."
    )
    return draw(folder, "roles-probes", caption, (max(7.0, 5.2 * len(pairs)), 3.3), paint)


def _full(axes: Any, full: Numbers) -> None:
    for x, number in enumerate([full["accuracy"], *(kind["accuracy"] for kind in full["kinds"].values())]):
        if number["value"] is not None:
            axes.plot([x - 0.42, x + 0.42], [number["value"]] * 2, color=INK, linewidth=1.2, linestyle="--")


def _number(scored: Numbers | None) -> Numbers:
    if scored is None:
        return {"value": None}
    return {"value": scored["score"], "low": scored["low"], "high": scored["high"]}
