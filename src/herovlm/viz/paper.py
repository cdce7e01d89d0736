"""The same drawing for papers: a matplotlib figure with vector overlays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from herovlm.errors import UsageError
from herovlm.extras import require
from herovlm.viz import marks
from herovlm.viz.figure import KEPT, PICTURE, Panel
from herovlm.viz.fragment import Plate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PADDING, VEIL, EDGE, ON_HEAT = "#d6d3ca", "#0e0e14", "#ffb000", "#ff2d6f"
DIM, TINT, SHADE = 0.76, 0.76, 0.6  # opacity over dropped patches, of a score of patches and one of tiles
GAP = 0.12  # inches between panels
NARROW = 1.0  # inches; below this the ends of a scale are written smaller
FONT = 8.0  # points: what journals ask for at the printed size
DOTS = 300  # an inch of the picture below the vectors
STYLE = {"font.size": FONT, "font.family": "sans-serif", "svg.hashsalt": "herovlm", "svg.fonttype": "none"}


def draw(
    plates: Sequence[Plate],
    pictures: Sequence[tuple[str, Image.Image]],
    *,
    width: float = 7.0,
    views: Sequence[str] = (KEPT,),
) -> Figure:
    """Draw a row for each plate and in it every view: the canvas of local tiles, and the thumbnail beside it.

    Args:
        plates: what to draw.
        pictures: the pictures that the plates name.
        width: inches; 3.3 is a column of most journals, 7 a page.
        views: "kept patches", "picture" and names of scores.

    Raises:
        UsageError: no plate has such a view.
        MissingExtraError: matplotlib is not installed.
    """
    known = list(dict.fromkeys([KEPT, PICTURE, *(name for plate in plates for name in plate.figure.scores)]))
    for view in views:
        if view not in known:
            raise UsageError(f"there is no view {view!r} of this; there are: {', '.join(known)}")
    if not width > 0:
        raise UsageError(f"width={width!r} is not a width in inches; give 3.3 for a column or 7 for a page")
    figures = require("matplotlib.figure", extra="viz")
    head, foot = 1.7 * FONT / 72, 2.2 * FONT / 72 * any(view not in (KEPT, PICTURE) for view in views)  # inches
    rows = [_row(plate, len(views), width) for plate in plates]  # (patches an inch, height in inches)
    height = sum(high + head + foot for _, high in rows) + GAP * len(rows)
    with styled():
        whole: Figure = figures.Figure(figsize=(width, height))
        top = height
        for plate, (scale, high) in zip(plates, rows, strict=True):
            left, photo = 0.0, pictures[plate.photo][1].convert("RGB")
            for view in views:
                told = _title(plate, view, first=view == views[0])
                whole.text(left / width, (top - 0.9 * FONT / 72) / height, told, va="center", weight="bold")
                for panel in plate.figure.panels:
                    wide, tall = panel.width / scale, panel.height / scale
                    place = (left / width, (top - head - tall) / height, wide / width, tall / height)
                    _panel(whole.add_axes(place), panel, photo, view, scale)
                    _scale(whole, panel, view, (left, top - head - tall, wide))
                    left += wide + GAP
            top -= high + head + foot + GAP
    return whole


def styled() -> AbstractContextManager[None]:
    """Set fonts, and make the same drawing the same file, as long as a figure is drawn or saved."""
    manager: AbstractContextManager[None] = require("matplotlib", extra="viz").rc_context(STYLE)
    return manager


def _row(plate: Plate, views: int, width: float) -> tuple[float, float]:
    """Patches an inch, the same in all panels, and the height of the row in inches."""
    panels = plate.figure.panels
    scale = views * sum(panel.width for panel in panels) / (width - GAP * (views * len(panels) - 1))
    return scale, max(panel.height for panel in panels) / scale


def _title(plate: Plate, view: str, *, first: bool) -> str:
    kept = f"{plate.figure.positions:,} of {plate.figure.of:,} positions"
    kept += ", smaller picture" if plate.figure.resized else ""
    named = f"{plate.label}: {kept}" if plate.label else kept
    if view == KEPT:
        return named
    return f"{named} – {view}" if first and plate.label else view


def _panel(axes: Any, panel: Panel, photo: Image.Image, view: str, scale: float) -> None:
    """Draw a panel; lengths on its axes are in patches, y runs downwards."""
    collections, path = (require(f"matplotlib.{name}", extra="viz") for name in ("collections", "path"))
    axes.set(xlim=(0, panel.width), ylim=(panel.height, 0), xticks=[], yticks=[], facecolor=PADDING)
    axes.spines[:].set_visible(False)
    heat = panel.heat.get(view)
    box, clip = panel.picture, _patch(axes, path, panel.valid)
    small = photo.copy()
    small.thumbnail((DOTS * box.width / scale + 1, DOTS * box.height / scale + 1))
    base = axes.imshow(
        small.convert("L") if heat else small,
        cmap="gray" if heat else None,
        extent=(box.x, box.x + box.width, box.y + box.height, box.y),
        interpolation="antialiased",
        aspect="auto",
    )
    base.set_clip_path(clip)
    if view == KEPT:
        axes.add_patch(_patch(axes, path, panel.dropped, facecolor=VEIL, alpha=DIM, linewidth=0, antialiased=False))
    elif heat:
        shades = np.ma.masked_invalid(heat.levels.numpy())
        place = (0, panel.width, panel.height, 0)
        alpha = SHADE if heat.each == "tile" else TINT
        axes.imshow(shades, cmap=_colours(), vmin=0, vmax=1, alpha=alpha, extent=place, interpolation="nearest")
    axes.set(xlim=(0, panel.width), ylim=(panel.height, 0), aspect="auto")
    if view != PICTURE:
        lines = [[(x, y), (x + dx, y + dy)] for x, y, dx, dy in marks.borders(panel.mask)]
        colour = EDGE if view == KEPT else ON_HEAT
        axes.add_collection(collections.LineCollection(lines, colors=colour, linewidths=0.7, capstyle="projecting"))
    _labels(axes, panel, view)


def _labels(axes: Any, panel: Panel, view: str) -> None:
    """Part the tiles, and write in each its number."""
    for tile in panel.labels:
        if len(panel.labels) > 1:
            corners = [tile.x, tile.x + panel.side, tile.x + panel.side, tile.x, tile.x]
            sides = [tile.y, tile.y, tile.y + panel.side, tile.y + panel.side, tile.y]
            axes.plot(corners, sides, color="white", linewidth=1.2, solid_joinstyle="miter")
        text = str(tile.kept) if view == KEPT else tile.scores.get(view)
        if text is not None:
            badge = {"boxstyle": "round,pad=0.22,rounding_size=0.25", "facecolor": VEIL, "edgecolor": "none"}
            at = (tile.x + panel.side * 0.045, tile.y + panel.side * 0.045)
            written = axes.annotate(
                text, at, (0.22 * FONT, -0.22 * FONT), textcoords="offset points", va="top", color="white", bbox=badge
            )
            written.set(weight="bold", fontsize=FONT - 1)


def _scale(whole: Any, panel: Panel, view: str, place: tuple[float, float, float]) -> None:
    """Draw the colours of a map below its panel, which stands at (left, bottom, width) in inches."""
    if (heat := panel.heat.get(view)) is None:
        return
    (left, bottom, wide), (width, height) = place, whole.get_size_inches()
    if heat.each == "group":
        whole.text(left / width, (bottom - FONT / 72) / height, f"{heat.groups} groups", va="center")
        return
    axes = whole.add_axes((left / width, (bottom - 0.08) / height, wide / width, 0.05 / height))
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=_colours(), aspect="auto")
    axes.axis("off")
    small = FONT - 1 if wide > NARROW else FONT - 2.5
    for x, text, side in zip((left, left + wide), heat.range, ("left", "right"), strict=True):
        whole.text(x / width, (bottom - 0.1) / height, text, va="top", ha=side, fontsize=small)


def _colours() -> Any:
    colours = require("matplotlib.colors", extra="viz")
    stops = [tuple(part / 255 for part in colour) for colour in marks.RAMP]
    return colours.LinearSegmentedColormap.from_list("herovlm", stops)


def _patch(axes: Any, path: Any, mask: Any, **looks: Any) -> Any:
    """Make one patch of all True cells of a mask (h, w), in the lengths of the axes."""
    shapes = [
        path.Path([(x, y), (x + n, y), (x + n, y + 1), (x, y + 1), (x, y)], closed=True) for x, y, n in marks.runs(mask)
    ]
    whole = path.Path.make_compound_path(*shapes) if shapes else path.Path(np.empty((0, 2)))
    return require("matplotlib.patches", extra="viz").PathPatch(whole, transform=axes.transData, **looks)
