"""Figures of finding 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from herovlm.extras import require
from herovlm.study.figures.base import GREY, INK, LATE, LOUD, TEAL, Drawn, Numbers, bars, draw, quiet
from herovlm.study.summary.tiles import falls
from herovlm.types import Grid
from herovlm.viz import geometry

if TYPE_CHECKING:
    from PIL import Image

NAMES = {"saliency": "saliency", "relevance": "relevance", "density": "density", "weight": "HERO's weight"}


WRITTEN = ("saliency", "relevance", "weight")


def correlation(found: Numbers, folder: Path) -> Drawn:
    """Draw how well each score orders the tiles, and what mixing saliency and relevance does."""

    def paint(figure: Any) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        places, scores = range(len(NAMES)), found["scores"]
        for name, shift, colour in (("within", -0.2, LATE), ("pooled", 0.2, TEAL)):
            label = {"within": "within picture and question", "pooled": "all tiles pooled"}[name]
            bars(left, [x + shift for x in places], [scores[s][name] for s in NAMES], colour, 0.38, label)
        left.set_xticks(list(places), list(NAMES.values()))
        left.axhline(0, color=INK, linewidth=0.8)
        left.set_ylabel("rank correlation with the true importance")
        left.legend(frameon=False, loc="upper left")
        left.margins(y=0.22)
        quiet(left)
        sweep = [point for point in found["sweep"] if point["value"] is not None]
        alphas = [point["alpha"] for point in sweep]
        right.fill_between(alphas, [p["low"] for p in sweep], [p["high"] for p in sweep], color=LATE, alpha=0.15, lw=0)
        right.plot(alphas, [p["value"] for p in sweep], color=LATE, marker="o", markersize=3.5)
        right.axvline(found["alpha"], color=GREY, linestyle="--", linewidth=1)
        right.annotate(" HERO's alpha", (found["alpha"], 0.02), xycoords=("data", "axes fraction"), color="#5c6b73")
        right.set_xlabel("alpha: 0 = relevance alone, 1 = saliency alone")
        right.set_ylabel("within picture and question")
        quiet(right)

    caption = (
        "Left: rank correlation of each score with the fall of the answer's log-likelihood when a tile is dropped, "
        "with 95 % intervals. Right: the same for mixtures of saliency and relevance."
    )
    return draw(folder, "tiles-correlation", caption, (9.4, 3.5), paint)


def example(lines: Sequence[Numbers], image: Image.Image, folder: Path) -> Drawn:
    """Draw one picture for each of its questions, with the scores of every local tile written on it."""

    def paint(figure: Any) -> None:
        for axes, line in zip(figure.subplots(1, len(lines), squeeze=False)[0], lines, strict=True):
            _grid(axes, line, image)

    rows, cols = lines[0]["grid"]
    caption = (
        "The same picture under two questions. On each tile: saliency, relevance, HERO's weight, and its true "
        "importance, the fall of the answer's log-likelihood without it. A red frame: the most important tile."
    )
    size = (min(11.0, 1.2 + 2.4 * cols * len(lines)), 0.5 + 2.5 * rows)
    return draw(folder, "tiles-example", caption, size, paint)


def _grid(axes: Any, line: Numbers, image: Image.Image) -> None:
    rows, cols = line["grid"]
    place = geometry.on_canvas(image.size, _unit(rows, cols))
    extent = (place.x, place.x + place.width, place.y + place.height, place.y)
    axes.set_facecolor("#d9d6cd")
    axes.imshow(image, extent=extent, interpolation="lanczos")
    axes.set(xlim=(0, cols), ylim=(rows, 0), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
    worth = falls(line)  # type: ignore[arg-type]
    best = int(worth.argmax())
    for tile in sorted(range(rows * cols), key=lambda tile: tile == best):  # the best frame lies on top
        row, col = divmod(tile, cols)
        loud = tile == best
        frame = {"fill": False, "edgecolor": LOUD if loud else "white", "linewidth": 3 if loud else 1.2}
        axes.add_patch(_rectangle((col + 0.012, row + 0.012), 0.976, 0.976, **frame))
        one, two, three, four = (
            f"{round(float(x), 2) + 0.0:.2f}" for x in (*(line[n][tile] for n in WRITTEN), worth[tile])
        )
        told = f"saliency {one:>5}   relevance {two:>5}\nweight   {three:>5}   worth     {four:>5}"
        up = _busy(image, place, row + 0.03, col) <= _busy(image, place, row + 0.83, col)
        box = {"facecolor": "white", "alpha": 0.88, "edgecolor": "none", "pad": 2.5}
        style = {
            "family": "monospace",
            "fontsize": 7.5,
            "va": "top" if up else "bottom",
            "bbox": box,
            "color": LOUD if loud else INK,
        }
        axes.text(col + 0.05, row + (0.05 if up else 0.95), told, **style)
    axes.set_title(f"{line['question']}  {line['answer']}", fontsize=9, loc="left", pad=8)


def _busy(image: Image.Image, place: geometry.Box, top: float, left: float) -> float:
    """How much a strip across a tile shows, so that words can be written where it is least; lengths in tiles."""
    scale = image.width / place.width  # pixels a tile
    corners = (left, top, left + 0.75, top + 0.14)
    at = [round((v - (place.x, place.y)[n % 2]) * scale) for n, v in enumerate(corners)]
    most = (image.width, image.height) * 2
    left, top, right, bottom = (min(max(v, 0), end) for v, end in zip(at, most, strict=True))
    shown = np.asarray(image.convert("L").crop((left, top, right, bottom)), dtype=np.float64)
    return float(shown.std()) if shown.size else 0.0


def _rectangle(*where: Any, **style: Any) -> Any:
    return require("matplotlib.patches", extra="eval").Rectangle(*where, **style)


def _unit(rows: int, cols: int) -> Grid:
    """Make a grid of tiles that are one patch each, so that lengths on the canvas are in tiles."""
    empty = torch.zeros(0, dtype=torch.int64)
    return Grid((rows, cols), 1, empty, empty, empty.bool())
