"""PruMerge+: PruMerge with an even grid of further centres, so that no part of the picture is lost."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from herovlm.methods.fields import within
from herovlm.methods.prumerge import PruMerge
from herovlm.ops import spread


@dataclass(frozen=True, kw_only=True)
class PruMergePlus(PruMerge):
    """Keep an even walk of cells besides what the CLS token looks at, and merge as PruMerge does (arXiv 2403.15388).

    Cells are taken at even steps in raster order, the other centres by attention; everything else is PruMerge.  The
    paper had one tile; here every tile is a picture of its own and keeps the same share of its valid patches.
    """

    grid: float = 0.75  # share of the centres that are cells; the authors' step takes three cells an outlier

    name = "prumerge_plus"
    formula = "as prumerge, with centres = every n-th patch and the top a of the others"
    fixed = True
    published = (
        "The authors' count is that of PruMerge's variants, and the cells come on top.  Variant 'adaptive' takes three "
        "cells an outlier, less rounding and overlap.  Variant 'fixed' (training) takes as many cells as patches by "
        "attention; one that is both is merged into others twice, and as many of the first other patches never are "
        "(here it is sent once)."
    )

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        within(self, 0, 1, "grid")

    def cells(self, valid: Tensor, count: Tensor) -> Tensor:
        """Walk evenly to the budget's share of cells, or in the authors' steps."""
        if self.exact:
            return spread.evenly(valid, ((count - 1).clamp(min=0) * self.grid).round().long())
        room = valid.sum(1)
        step = (1 / (count.clamp(min=1).double() / room)).long()  # in this order: the authors' rounding
        if self.variant == "adaptive":
            return spread.stepped(valid, step // 3, 0 * step, room - 1)
        return spread.stepped(valid, step, step // 2, room - 1)

    def pool(self, valid: Tensor, cells: Tensor, best: Tensor) -> Tensor:
        """Count twice what was chosen both ways, and lose as many of the first others: the authors' training."""
        rest, twice = valid & ~cells & ~best, cells & best
        lost = rest & (rest.cumsum(1) <= twice.sum(1, keepdim=True))
        return valid.long() if self.variant == "adaptive" else valid.long() + twice.long() - lost.long()
