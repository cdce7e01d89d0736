"""Spread choices over the patches of a tile, walked in raster order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def evenly(ok: Tensor, count: Tensor) -> Tensor:
    """Choose the patch in the middle of each of `count` equal segments.

    Args:
        ok: (T, N) bool, the patches to walk over.
        count: (T,) int64, at most ok.sum(1).

    Returns:
        (T, N) bool, `count` in each tile.
    """
    length, twice = ok.sum(1, keepdim=True).clamp(min=1), 2 * count[:, None]
    middles = (twice * ok.cumsum(1) + length - 1) // (2 * length)  # middles passed with this patch
    return middles.diff(dim=1, prepend=middles.new_zeros(len(ok), 1)) > 0


def stepped(ok: Tensor, step: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """Choose every `step`-th patch of those numbered start <= number < stop, from `start` on.

    Args:
        ok: (T, N) bool, the patches to walk over and to number from 0.
        step: (T,) int64, as are `start` and `stop`; less than 1 counts as 1.
        start: First number.
        stop: Number that ends the walk.

    Returns:
        (T, N) bool.
    """
    place = ok.cumsum(1) - 1 - start[:, None]
    return ok & (place >= 0) & (place % step.clamp(min=1)[:, None] == 0) & (place < (stop - start)[:, None])


def at(lines: Sequence[int], place: Tensor) -> Tensor:
    """Look up rows or columns, known to the host, at some places in their list: int64 -> int64 of the same shape."""
    if isinstance(lines, range):
        return lines.start + place
    return torch.tensor(lines, device=place.device)[place]


def laid(picture: Tensor, rows: Sequence[int], columns: Sequence[int], shape: tuple[int, int]) -> Tensor:
    """Lay a picture (h, w) on the h rows and w columns of a larger sheet of this shape that is zero elsewhere."""
    if isinstance(rows, range) and isinstance(columns, range):
        around = columns.start, shape[1] - columns.stop, rows.start, shape[0] - rows.stop
        return torch.nn.functional.pad(picture, around)
    down, across = (torch.tensor([*lines], device=picture.device) for lines in (rows, columns))
    wide = picture.new_zeros(len(rows), shape[1]).index_copy(1, across, picture)
    return picture.new_zeros(shape).index_copy(0, down, wide)


def lattice(ok: Tensor, room: int, frame: tuple[Sequence[int], Sequence[int]], count: int) -> Tensor:
    """Choose cells of a map at even distances, as far apart in rows as in columns.

    `count` points stand in rows at equal distances, in each row at equal distances, half a distance from the borders of
    the frame.  Where cells of the frame are not ok, as many others as fall on them are taken by an even walk.

    Args:
        ok: (h, w) bool.
        room: ok.sum(), as the host knows it.
        frame: Rows and columns that have a cell that is ok; none that lie between them count as a distance.
        count: How many, at most `room`.

    Returns:
        (h, w) bool, `count` of them True.
    """
    nothing = torch.zeros_like(ok)
    if not count:
        return nothing
    high, wide = map(len, frame)
    rows = min(high, count, max(-(-count // wide), round(math.sqrt(count * high / wide))))
    point = torch.arange(count, device=ok.device)
    row = (rows * (2 * point + 1) - 1) // (2 * count)
    before, after = (
        (2 * r * count + rows) // (2 * rows) for r in (row, row + 1)
    )  # points before this and the next row
    y, x = _middle(row, rows, high), _middle(point - before, after - before, wide)
    chosen = torch.scatter(nothing.flatten(), 0, at(frame[0], y) * ok.shape[1] + at(frame[1], x), True).view_as(ok) & ok
    if room == high * wide:
        return chosen
    rest = (ok & ~chosen).view(1, -1)
    return chosen | evenly(rest, count - chosen.sum()[None]).view_as(ok)


def _middle(part: Tensor, parts: Tensor | int, length: int) -> Tensor:
    """Find the middle of each of `parts` equal parts of a line of cells; of two middles, the first."""
    return ((2 * part + 1) * length - 1) // (2 * parts)
