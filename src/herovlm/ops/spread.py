"""Spread choices over the patches of a tile, walked in raster order."""

from __future__ import annotations

import math
from itertools import pairwise

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


def lattice(ok: Tensor, count: int) -> Tensor:
    """Choose cells of a map at even distances, as far apart in rows as in columns.

    `count` points stand in rows at equal distances, in each row at equal distances, half a distance from the borders of
    the rectangle around `ok`.  A point whose cell is not ok, or taken, moves to the nearest that is, ties by position.

    Args:
        ok: (h, w) bool.
        count: How many, at most ok.sum().

    Returns:
        (h, w) bool, `count` of them True.
    """
    chosen, cells = torch.zeros_like(ok), ok.nonzero()  # cells (n, 2)
    if not count:
        return chosen
    top, left = (int(edge) for edge in cells.amin(0))
    high, wide = (int(edge) for edge in cells.amax(0) - cells.amin(0) + 1)
    rows = min(high, count, max(-(-count // wide), round(math.sqrt(count * high / wide))))
    ends = [(2 * i * count + rows) // (2 * rows) for i in range(rows + 1)]  # points before each row
    points = [
        (top + _middle(i, rows, high), left + _middle(j, end - start, wide))
        for i, (start, end) in enumerate(pairwise(ends))
        for j in range(end - start)
    ]
    grid = torch.tensor(points, device=ok.device)  # (count, 2)
    there = ok[grid[:, 0], grid[:, 1]]
    chosen[grid[there, 0], grid[there, 1]] = True
    for point in grid[~there]:
        free = (ok & ~chosen).nonzero()
        row, column = free[(free - point).square().sum(1).argmin()]
        chosen[row, column] = True
    return chosen


def _middle(part: int, parts: int, length: int) -> int:
    """Find the middle of one of `parts` equal parts of a line of cells; of two middles, the first."""
    return ((2 * part + 1) * length - 1) // (2 * parts)
