"""Spatial average pooling to the budget: a plain smaller picture, with nothing chosen by content."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from herovlm.errors import MethodError
from herovlm.methods.base import Method
from herovlm.ops import allocate, merge, spread
from herovlm.ops.fit import divided, fit
from herovlm.types import Kept, Needs, Newlines, Seen


@dataclass(frozen=True, kw_only=True)
class Pool(Method):
    """Average each tile's features over an even grid of cells, the same share in every tile.

    The mask marks the patch in the middle of each cell; every valid patch is averaged into the nearest of them.
    """

    name = "pool"
    paper = "baseline"
    fidelity = "baseline"
    formula = "feature[cell] = mean of the features in the cell"
    fixed = True

    def needs(self, depth: int) -> Needs:
        """Nothing but the features."""
        return Needs()

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Spread anchors over the tiles and average around them."""
        if seen.features is None:
            raise MethodError("method 'pool' averages features, and none were recorded")
        valid, side, room, frames = seen.valid, seen.grid.side, seen.counts.room, seen.counts.frames(seen.grid)

        def patches(n: int) -> Tensor:
            tiles = map(spread.lattice, valid.view(-1, side, side), room, frames, allocate.shares(room, n, room))
            return torch.stack(list(tiles)).view_as(valid)

        mask, rows = fit(patches, seen, torch.zeros(valid.shape, device=valid.device), budget, newlines)
        return Kept(
            mask, rows, features=merge.average(seen.features, valid, mask, side, divided(seen, mask, budget, newlines))
        )
