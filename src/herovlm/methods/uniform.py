"""Even spacing: a regular grid over the picture, whatever is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from herovlm.methods.base import Method
from herovlm.ops import allocate, spread
from herovlm.ops.fit import fit
from herovlm.types import Grid, Kept, Needs, Newlines, Seen


@dataclass(frozen=True, kw_only=True)
class Uniform(Method):
    """Keep patches at even distances: a regular grid over the canvas of local tiles, and one over the thumbnail.

    Thumbnail and canvas get the same share of their valid patches.  A grid's rows are as far apart as its columns; the
    borders of tiles do not matter to it, and padding is not part of the canvas.
    """

    name = "uniform"
    paper = "baseline"
    fidelity = "baseline"
    formula = "kept = n points, rows and columns √(h·w / n) patches apart, of a canvas of h × w valid patches"
    moved: ClassVar[Mapping[str, str]] = {"layers": "cls_topk(layers=...)"}  # its name until 0.1.0

    def needs(self, depth: int) -> Needs:
        """Nothing but the features, which are always there."""
        return Needs()

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Divide the budget between thumbnail and canvas, and lay a grid over each."""
        grid, valid = seen.grid, seen.valid
        thumbnail, canvas = valid[0].view(grid.side, grid.side), laid_out(valid[1:], grid)
        room = torch.stack([thumbnail.sum(), canvas.sum()])

        def patches(n: int) -> Tensor:
            one, all_others = allocate.exact(room, n, room).tolist()
            kept = [spread.lattice(thumbnail, one).view(1, -1), cut_up(spread.lattice(canvas, all_others), grid)]
            return torch.cat(kept)

        scores = torch.zeros(valid.shape, device=valid.device)  # a position that is left goes to the first patch
        return Kept(*fit(patches, seen, scores, budget, newlines))


def laid_out(tiles: Tensor, grid: Grid) -> Tensor:
    """Lay local tiles (K, N) side by side: (rows * side, columns * side)."""
    rows, cols = grid.tiles
    return tiles.view(rows, cols, grid.side, grid.side).transpose(1, 2).reshape(rows * grid.side, cols * grid.side)


def cut_up(canvas: Tensor, grid: Grid) -> Tensor:
    """Cut a canvas (rows * side, columns * side) into local tiles (K, N)."""
    rows, cols = grid.tiles
    return canvas.view(rows, grid.side, cols, grid.side).transpose(1, 2).reshape(rows * cols, grid.side**2)
