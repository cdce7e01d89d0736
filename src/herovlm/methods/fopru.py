"""FoPru: attention that a patch receives, kept patch by patch or row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.signals import read
from herovlm.ops import score, select
from herovlm.ops.fit import fit
from herovlm.ops.select import Scope
from herovlm.types import Kept, Needs, Newlines, Seen, Signal


@dataclass(frozen=True, kw_only=True)
class FoPru(Method):
    """FoPru: the patches, or the whole rows of patches, that receive the most attention (arXiv 2411.14164).

    Rebuilt from the paper's abstract: which layer and whose attention it means are our reading.  The strategy "row"
    takes rows by their sum; the last row is filled with its best patches, so the budget is met exactly.
    How the paper treats tiles is not known to us; every tile on its own is our form.
    """

    strategy: Literal["rank", "row"] = "rank"  # single patches, or rows of a tile
    significance: Signal = (
        "received"  # attention from all patches, the CLS token's ("cls") or the pooling head's ("probe")
    )
    layer: Layer = -2  # block whose attention counts: the one before the last
    scope: Scope = "tile"  # "image": one ranking over all tiles

    name = "fopru"
    paper = "arXiv 2411.14164"
    fidelity = "reconstruction"
    formula = "kept = top P of s[j], or of rows by Σ_{j in row} s[j], with s[j] = Σ_i mean_heads A[i, j]"
    fixed = True

    def needs(self, depth: int) -> Needs:
        """Attention received, or CLS rows, of one block."""
        return read(self.significance, resolve((self.layer,), depth))

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Rank patches, or rows and then the patches of a row."""
        scores = score.rows(seen, self.significance, resolve((self.layer,), seen.depth))  # (T, N)
        order = scores if self.strategy == "rank" else -self.by_row(scores, seen).float()
        patches = select.by_score(order, seen, self.scope)
        return Kept(*fit(patches, seen, order, budget, newlines), why={"score": scores})

    def by_row(self, scores: Tensor, seen: Seen) -> Tensor:
        """Place of each patch when rows go one after the other: (T, N) int64, 0 is the first."""
        tiles, side = len(scores), seen.grid.side
        cells, valid = scores.view(-1, side), seen.valid.view(-1, side)  # (T * side, side)
        shape = (1, -1) if self.scope == "image" else (tiles, side)
        sums = cells.masked_fill(~valid, 0).sum(1)
        rows = select.ranks(sums.view(shape), valid.any(1).view(shape)).view(-1, 1)  # (T * side, 1)
        return (rows * side + select.ranks(cells, valid)).view_as(scores)
