"""Where a patch lies on the picture, and where the picture lies on the canvas of tiles.

Lengths on the canvas are in patches: a canvas of `rows` x `cols` tiles is `cols * side` wide and `rows * side` high.
The picture is made to fit the canvas with its aspect kept, and centred; the thumbnail is the whole picture in one tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from herovlm.errors import InputsError
from herovlm.types import Grid, Seen

Fit = Literal["squeeze", "pad", "crop"]  # how the whole picture becomes one square tile
Size = tuple[int, int]  # width, height in pixels


@dataclass(frozen=True)
class Box:
    """A rectangle: left, top, width, height."""

    x: float
    y: float
    width: float
    height: float


def on_canvas(size: Size, grid: Grid) -> Box:
    """Where a picture of `size` lies on the canvas of local tiles, in patches."""
    rows, cols = grid.tiles
    return _inside(size, cols * grid.side, rows * grid.side, min)


def on_thumbnail(size: Size, grid: Grid, fit: Fit = "squeeze") -> Box:
    """Where a picture of `size` lies on the thumbnail, in patches; a cropped picture hangs over its edges."""
    if fit == "squeeze":
        return Box(0.0, 0.0, grid.side, grid.side)
    return _inside(size, grid.side, grid.side, min if fit == "pad" else max)


def check(size: Size, seen: Seen) -> None:
    """Refuse a picture of another shape than the one that was seen: one whose inside would be padding.

    Raises:
        InputsError: a patch that lies in the picture, more than a patch away from its edges, was not sent.
    """
    if not any(seen.grid.tiles):
        return
    box, sent = on_canvas(size, seen.grid), canvas(seen.valid.cpu(), seen.grid)
    top, left = math.ceil(box.y + 1), math.ceil(box.x + 1)
    inside = sent[top : math.floor(box.y + box.height - 1), left : math.floor(box.x + box.width - 1)]
    if not inside.all():
        raise InputsError(
            f"a picture of {size[0]} x {size[1]} pixels would fill patches that were not sent; give the picture that "
            "went into the processor, turned as it was there"
        )


def pixels(size: Size, grid: Grid, tile: int, patch: int, fit: Fit = "squeeze") -> Box:
    """What a patch shows, in pixels of the picture; it may hang over the edge of the picture into the padding."""
    row, col = divmod(patch, grid.side)
    place = on_thumbnail(size, grid, fit)
    if tile:
        tile_row, tile_col = divmod(tile - 1, grid.tiles[1])
        row, col = row + tile_row * grid.side, col + tile_col * grid.side
        place = on_canvas(size, grid)
    wide, high = size[0] / place.width, size[1] / place.height  # pixels a patch
    return Box((col - place.x) * wide, (row - place.y) * high, wide, high)


def canvas(values: Tensor, grid: Grid) -> Tensor:
    """Lay the local tiles of `values` (T, N) side by side: (rows * side, cols * side).

    Raises:
        InputsError: `values` are not of this grid.
    """
    rows, cols = grid.tiles
    _check(values, grid)
    tiles = values[1:].reshape(rows, cols, grid.side, grid.side)
    return tiles.permute(0, 2, 1, 3).reshape(rows * grid.side, cols * grid.side)


def thumbnail(values: Tensor, grid: Grid) -> Tensor:
    """Return the thumbnail of `values` (T, N) as it lies: (side, side).

    Raises:
        InputsError: `values` are not of this grid.
    """
    _check(values, grid)
    return values[0].reshape(grid.side, grid.side)


def _inside(size: Size, width: int, height: int, choose: Callable[[float, float], float]) -> Box:
    scale = choose(width / size[0], height / size[1])
    wide, high = size[0] * scale, size[1] * scale
    return Box((width - wide) / 2, (height - high) / 2, wide, high)


def _check(values: Tensor, grid: Grid) -> None:
    shape = (1 + grid.tiles[0] * grid.tiles[1], grid.side * grid.side)
    if tuple(values.shape) != shape:
        raise InputsError(f"values of shape {tuple(values.shape)} do not fit a grid of {shape} (tiles, patches)")
