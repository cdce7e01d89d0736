"""What the overview's patches say of the local tiles: which of them shows a patch, and the map over the canvas."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from herovlm.ops import spread
from herovlm.types import Seen


def cover(seen: Seen, lines: tuple[Sequence[int], Sequence[int]]) -> Tensor:
    """Find the local tile that shows each patch of the overview: (N,) int64; -1 = the overview has no such patch.

    Args:
        seen: Has an overview and local tiles.
        lines: Rows and columns of the canvas that the picture fills.
    """
    side, device = seen.grid.side, seen.valid.device
    high, wide = sizes = [len(own) for own in seen.counts.overview]
    middles = [2 * torch.arange(size, device=device) + 1 for size in sizes]  # of a patch, in halves of a patch
    y, x = (
        spread.at(line, middle * len(line) // (2 * size)) // side
        for line, middle, size in zip(lines, middles, sizes, strict=True)
    )
    owner = y[:, None] * seen.grid.tiles[1] + x
    if high < side or wide < side:
        owner = torch.nn.functional.pad(owner, (0, side - wide, 0, side - high), value=-1)
    return owner.flatten()


def parts(seen: Seen) -> Tensor:
    """Cut the overview into as many equal parts as there are local tiles: (T, N) bool, of each its patches."""
    (rows, cols), side, device = seen.grid.tiles, seen.grid.side, seen.valid.device
    high, wide = (len(own) for own in seen.counts.overview)
    y, x = (torch.arange(size, device=device) for size in (high, wide))
    part = (y * rows // high * cols)[:, None] + x * cols // wide
    if high < side or wide < side:
        part = torch.nn.functional.pad(part, (0, side - wide, 0, side - high), value=-2)
    return part.flatten() == torch.arange(-1, rows * cols, device=device)[:, None]


def stretched(patches: Tensor, seen: Seen) -> Tensor:
    """Stretch a map of the overview (N,) over what is not padding of the canvas: (T, N), itself for the overview."""
    grid, (rows, columns) = seen.grid, (seen.counts.rows, seen.counts.columns)
    if not rows or not columns:  # one tile, or a picture so thin that un-padding leaves nothing of the canvas
        return torch.nn.functional.pad(patches[None], (0, 0, 0, len(seen.valid) - 1))
    high, wide = (len(own) for own in seen.counts.overview)
    whole = patches.view(1, 1, grid.side, grid.side)[..., :high, :wide]
    picture = torch.nn.functional.interpolate(whole, (len(rows), len(columns)), mode="bilinear")[0, 0]
    height, width = (grid.side * count for count in grid.tiles)
    return torch.cat([patches[None], grid.cut(spread.laid(picture, rows, columns, (height, width)))])
