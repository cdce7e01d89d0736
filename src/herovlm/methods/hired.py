"""HiRED: tile budgets by what an early look at the thumbnail finds, patches by a late look at each tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from herovlm.methods.base import Layer, Method, overview_of, resolve
from herovlm.methods.fields import within
from herovlm.methods.signals import read
from herovlm.ops import allocate, score, select
from herovlm.ops.fit import closed_by, fit
from herovlm.ops.overview import cover
from herovlm.types import Kept, Needs, Newlines, Seen, Signal


@dataclass(frozen=True, kw_only=True)
class Hired(Method):
    """HiRED: a share for the thumbnail, the rest to tiles by the early CLS attention they cover (arXiv 2408.10945).

    A tile weighs as much as the first block's CLS row of the thumbnail over the part of the picture that it shows; in
    each tile the patches with the highest late CLS attention stay.  Made for tiled models; without local tiles the
    thumbnail gets everything.  `variant="paper"` takes the canvas for the picture and rounds down, `"official"` is the
    authors' code index for index.  These two spend a share of all patches, padding included, lose what falls on
    padding or is rounded off, and keep no newlines: their total is not the budget.  Without an overview a tile weighs
    as much as its own early attention, and these two are refused.
    """

    variant: Literal["herovlm", "paper", "official"] = "herovlm"  # the exact budget, or the shares of paper or code
    alpha: float = 0.5  # share of the patches for the thumbnail
    content_layer: Layer = 0  # block whose CLS row of the thumbnail weighs the tiles
    token_layer: Layer = -2  # block whose CLS rows rank the patches: the one before the last
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")

    name = "hired"
    paper = "arXiv 2408.10945"
    fidelity = "golden parity"
    formula = "kept[t] = top n[t] of late CLS row, n[0] = α·P, n[t] ~ Σ_{cells that t covers} early CLS row of tile 0"
    fixed = True
    published = (
        "The authors' code cuts the thumbnail into strips of whole rows, one a tile whatever the grid, and counts each "
        "strip's cells among the best (1 − α) of the thumbnail instead of adding attention; it swaps rows and columns "
        "of the grid when it packs; it leaves a picture of one tile whole."
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 0, 1, "alpha")

    @property
    def exact(self) -> bool:
        """False for the authors' rounding: losses and newlines stand outside the budget."""
        return self.variant == "herovlm"

    def needs(self, depth: int) -> Needs:
        """CLS rows of an early and a late block."""
        return read(self.signal, resolve((self.content_layer, self.token_layer), depth))

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Weigh the tiles, spend the budget, and take each tile's best."""
        valid, weight = seen.valid, self.weigh(seen)
        scores = score.rows(seen, self.signal, resolve((self.token_layer,), seen.depth))  # (T, N)
        why = {"score": scores, "weight": torch.cat([weight.new_zeros(seen.grid.lead), weight])}
        if not self.exact:
            overview_of(self, seen, "hired")
            mask = self.floored(scores, weight, share) & valid
            return Kept(mask, closed_by(seen.grid, mask, newlines or "none"), why=why)
        ranks, parts = select.ranks(scores, valid), (self.alpha, 1 - self.alpha)  # thumbnail, all local tiles

        def patches(n: int) -> Tensor:
            return ranks < allocate.nested(parts, weight, n, seen.counts)[:, None]

        return Kept(*fit(patches, seen, scores, budget, newlines), why=why)

    def weigh(self, seen: Seen) -> Tensor:
        """Share of the thumbnail's early attention that each local tile covers, (K,)."""
        early = score.rows(seen, self.signal, resolve((self.content_layer,), seen.depth))  # (T, N)
        if not seen.grid.overview:
            weight = (early * seen.valid).sum(1)
            return weight / weight.sum().clamp(min=1e-12)
        content, (cells, tiles) = early[0], (early.shape[1], len(early) - 1)  # (N,)
        if not tiles:
            return content.new_zeros(0)
        if self.variant == "official":
            best = select.ranks(content[None], torch.ones_like(content[None]).bool())[0]
            content = (best < int(cells * (1 - self.alpha))).float()
            owner = torch.arange(cells, device=content.device) * tiles // cells
        else:
            rows, columns = (range(seen.grid.side * n) for n in seen.grid.tiles)
            owner = cover(seen, (seen.counts.rows, seen.counts.columns) if self.exact else (rows, columns))
        weight = (content * (owner == torch.arange(tiles, device=content.device)[:, None])).sum(1)
        return weight / weight.sum().clamp(min=1e-12)

    def floored(self, scores: Tensor, weight: Tensor, share: float) -> Tensor:
        """Spend as the authors do, blind to padding: (T, N) bool."""
        tiles, cells = scores.shape
        total = int(tiles * cells * share)
        first = min(int(total * self.alpha) if len(weight) else total, cells)
        rest = allocate.floored(weight, min(total - first, (tiles - 1) * cells), torch.full_like(weight, cells).long())
        everywhere = torch.ones_like(scores, dtype=torch.bool)
        return select.top(select.ranks(scores, everywhere), torch.cat([rest.new_tensor([first]), rest]), everywhere)
