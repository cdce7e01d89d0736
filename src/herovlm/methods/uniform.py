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
from herovlm.types import Kept, Needs, Newlines, Seen


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
    fixed = True
    moved: ClassVar[Mapping[str, str]] = {"layers": "cls_topk(layers=...)"}  # its name until 0.1.0

    def needs(self, depth: int) -> Needs:
        """Nothing but the features, which are always there."""
        return Needs()

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Divide the budget between thumbnail and canvas, and lay a grid over each."""
        grid, counts = seen.grid, seen.counts
        room = sum(grid.whole(counts.room)), sum(grid.local(counts.room))  # of thumbnail and canvas, as are the others
        ok = grid.whole(seen.valid).view(-1, grid.side), grid.canvas(grid.local(seen.valid))
        frames = counts.overview, (counts.rows, counts.columns)

        def patches(n: int) -> Tensor:
            whole, canvas = map(spread.lattice, ok, room, frames, allocate.shares(room, n, room))
            return torch.cat([whole.view(grid.lead, grid.side**2), grid.cut(canvas)])

        scores = torch.zeros(seen.valid.shape, device=seen.valid.device)  # what is left goes to the first patch
        return Kept(*fit(patches, seen, scores, budget, newlines))
