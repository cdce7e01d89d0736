"""What all figures share: one look, and files that are the same whenever they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from herovlm.eval.curves import COLOURS, FAINT, HERO, RANDOM, STYLE
from herovlm.extras import require

EARLY, LATE, TEAL = "#e07b1a", HERO, COLOURS[1]
GREY, INK, LOUD = RANDOM, "#1c2530", "#d1263b"
Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Drawn:
    """A figure that was drawn."""

    name: str  # of its files
    caption: str  # also what is read out instead of it
    svg: str


def draw(folder: Path, name: str, caption: str, size: tuple[float, float], paint: Callable[[Any], None]) -> Drawn:
    """Draw a figure into `folder` as PNG and SVG.

    Args:
        folder: where it goes.
        name: of the files.
        caption: what it shows.
        size: width and height in inches.
        paint: fills an empty matplotlib figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = require("matplotlib", extra="eval")
    figures = require("matplotlib.figure", extra="eval")
    with matplotlib.rc_context(STYLE):
        figure = figures.Figure(figsize=size, layout="constrained")
        paint(figure)
        figure.draw_without_rendering()  # the layout settles in the second pass
        figure.savefig(folder / f"{name}.png", dpi=110)
        target = folder / f"{name}.svg"
        figure.savefig(target, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return Drawn(name, caption, target.read_text("utf-8"))


def bars(axes: Any, at: Any, numbers: list[Numbers], colour: str, width: float, label: str | None = None) -> None:
    """Draw numbers as bars with their intervals; a number that was not measured leaves a gap."""
    known = [(x, n) for x, n in zip(at, numbers, strict=True) if n["value"] is not None]
    if not known:
        return
    places = [x for x, _ in known]
    values = [n["value"] for _, n in known]
    errors = [
        [max(n["value"] - n["low"], 0.0) for _, n in known],
        [max(n["high"] - n["value"], 0.0) for _, n in known],
    ]
    axes.bar(places, values, width, color=colour, label=label)
    axes.errorbar(places, values, errors, fmt="none", ecolor=INK, elinewidth=1, capsize=2)


def quiet(axes: Any) -> None:
    """Leave only faint horizontal lines."""
    axes.grid(axis="y", color=FAINT)
    axes.set_axisbelow(True)
