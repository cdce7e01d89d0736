"""Spread choices over the patches of a tile, walked in raster order."""

from __future__ import annotations

from torch import Tensor


def evenly(ok: Tensor, count: Tensor) -> Tensor:
    """Choose the patch in the middle of each of `count` equal stretches.

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
