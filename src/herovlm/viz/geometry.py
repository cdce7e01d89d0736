"""Where a patch lies on the picture, and where the picture lies on the canvas of tiles.

Lengths on the canvas are in patches: a canvas of `rows` x `cols` tiles is `cols * side` wide and `rows * side` high.
The picture is made to fit the canvas with its aspect kept, and centred, or it fills what is valid of the canvas
(`Grid.squeezed`); the thumbnail is the whole picture in one tile.  A patch may stand for several of the vision tower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from herovlm.errors import InputsError
from herovlm.types import Counts, Grid, Seen

Fit = Literal["squeeze", "pad", "crop"]  # how the whole picture becomes one square tile
Size = tuple[int, int]  # width, height in pixels


@dataclass(frozen=True)
class Box:
    """A rectangle: left, top, width, height."""

    x: float
    y: float
    width: float
    height: float


def on_canvas(size: Size, grid: Grid, counts: Counts | None = None) -> Box:
    """Where a picture of `size` lies on the canvas of local tiles, in patches; without counts, all tiles are full."""
    rows, cols = grid.tiles
    if grid.squeezed:
        return _filled(
            *((counts.rows, counts.columns) if counts else (range(rows * grid.side), range(cols * grid.side)))
        )
    return _inside(size, cols * grid.side, rows * grid.side, min)


def on_thumbnail(size: Size, grid: Grid, fit: Fit = "squeeze", counts: Counts | None = None) -> Box:
    """Where a picture of `size` lies on the thumbnail, in patches; a cropped picture hangs over its edges."""
    if fit == "squeeze" or grid.squeezed:
        return _filled(*(counts.overview if counts else (range(grid.side), range(grid.side))))
    return _inside(size, grid.side, grid.side, min if fit == "pad" else max)


def check(size: Size, seen: Seen) -> None:
    """Refuse a picture of another shape than the one that was seen: one whose inside would be padding.

    Raises:
        InputsError: a patch that lies in the picture, more than a patch away from its edges, was not sent.
    """
    if not any(seen.grid.tiles) or seen.grid.squeezed:
        return
    box, sent = on_canvas(size, seen.grid, seen.counts), canvas(seen.valid.cpu(), seen.grid)
    top, left = math.ceil(box.y + 1), math.ceil(box.x + 1)
    inside = sent[top : math.floor(box.y + box.height - 1), left : math.floor(box.x + box.width - 1)]
    if not inside.all():
        raise InputsError(
            f"a picture of {size[0]} x {size[1]} pixels would fill patches that were not sent; give the picture that "
            "went into the processor, turned as it was there"
        )


def pixels(size: Size, grid: Grid, tile: int, patch: int, fit: Fit = "squeeze", counts: Counts | None = None) -> Box:
    """What a patch shows, in pixels of the picture; it may hang over the edge of the picture into the padding."""
    row, col = divmod(patch, grid.side)
    place = on_thumbnail(size, grid, fit, counts)
    if tile >= grid.lead:
        tile_row, tile_col = divmod(tile - grid.lead, grid.tiles[1])
        row, col = row + tile_row * grid.side, col + tile_col * grid.side
        place = on_canvas(size, grid, counts)
    wide, high = size[0] / place.width, size[1] / place.height  # pixels a patch
    return Box((col - place.x) * wide, (row - place.y) * high, wide, high)


def canvas(values: Tensor, grid: Grid) -> Tensor:
    """Lay the local tiles of `values` (T, N) side by side: (rows * side, cols * side).

    Raises:
        InputsError: `values` are not of this grid.
    """
    rows, cols = grid.tiles
    _check(values, grid)
    return grid.canvas(grid.local(values).reshape(rows * cols, -1))


def shown(values: Tensor, grid: Grid, counts: Counts) -> Tensor:
    """Lay the local tiles side by side, without what only fills up the last of them: no wider and higher than `canvas`.

    Raises:
        InputsError: `values` are not of this grid.
    """
    whole = canvas(values, grid)
    return whole[: counts.rows[-1] + 1, : counts.columns[-1] + 1] if grid.squeezed else whole


def thumbnail(values: Tensor, grid: Grid) -> Tensor:
    """Return the thumbnail of `values` (T, N) as it lies, where there is one: (side, side).

    Raises:
        InputsError: `values` are not of this grid.
    """
    _check(values, grid)
    return values[0].reshape(grid.side, grid.side)


def _filled(rows: Sequence[int], columns: Sequence[int]) -> Box:
    """Fill the rows and columns that are valid, from the first to the last."""
    left, top = (float(lines[0]) if lines else 0.0 for lines in (columns, rows))
    right, bottom = (float(lines[-1] + 1) if lines else 1.0 for lines in (columns, rows))
    return Box(left, top, right - left, bottom - top)


def _inside(size: Size, width: int, height: int, choose: Callable[[float, float], float]) -> Box:
    scale = choose(width / size[0], height / size[1])
    wide, high = size[0] * scale, size[1] * scale
    return Box((width - wide) / 2, (height - high) / 2, wide, high)


def _check(values: Tensor, grid: Grid) -> None:
    shape = (grid.lead + grid.tiles[0] * grid.tiles[1], grid.side * grid.side)
    if tuple(values.shape) != shape:
        raise InputsError(f"values of shape {tuple(values.shape)} do not fit a grid of {shape} (tiles, patches)")
