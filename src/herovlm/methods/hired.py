"""HiRED: tile budgets by what an early look at the thumbnail finds, patches by a late look at each tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.fields import within
from herovlm.ops import allocate, score, select, spread
from herovlm.ops.fit import closed_by, fit
from herovlm.types import Grid, Kept, Needs, Newlines, Seen


@dataclass(frozen=True, kw_only=True)
class Hired(Method):
    """HiRED: a share for the thumbnail, the rest to tiles by the early CLS attention they cover (arXiv 2408.10945).

    A tile weighs as much as the first block's CLS row of the thumbnail over the part of the picture that it shows; in
    each tile the patches with the highest late CLS attention stay.  Made for tiled models; without local tiles the
    thumbnail gets everything.  `variant="paper"` takes the canvas for the picture and rounds down, `"official"` is the
    authors' code index for index.  These two spend a share of all patches, padding included, lose what falls on
    padding or is rounded off, and keep no newlines: their total is not the budget.
    """

    variant: Literal["herovlm", "paper", "official"] = "herovlm"  # the exact budget, or the shares of paper or code
    alpha: float = 0.5  # share of the patches for the thumbnail
    content_layer: Layer = 0  # block whose CLS row of the thumbnail weighs the tiles
    token_layer: Layer = -2  # block whose CLS rows rank the patches: the one before the last

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
        return Needs(resolve((self.content_layer, self.token_layer), depth))

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Weigh the tiles, spend the budget, and take each tile's best."""
        valid, weight = seen.valid, self.weigh(seen)
        scores = score.cls_rows(seen.attention, resolve((self.token_layer,), seen.depth))  # (T, N)
        why = {"score": scores, "weight": torch.cat([weight.new_zeros(1), weight])}
        if not self.exact:
            mask = self.floored(scores, weight, share) & valid
            return Kept(mask, closed_by(seen.grid, mask, newlines or "none"), why=why)
        ranks, parts = select.ranks(scores, valid), (self.alpha, 1 - self.alpha)  # thumbnail, all local tiles

        def patches(n: int) -> Tensor:
            return ranks < allocate.nested(parts, weight, n, seen.counts)[:, None]

        return Kept(*fit(patches, seen, scores, budget, newlines), why=why)

    def weigh(self, seen: Seen) -> Tensor:
        """Share of the thumbnail's early attention that each local tile covers, (K,)."""
        content = score.cls_rows(seen.attention, resolve((self.content_layer,), seen.depth))[0]  # (N,)
        tiles, cells = len(seen.valid) - 1, len(content)
        if not tiles:
            return content.new_zeros(0)
        if self.variant == "official":
            best = select.ranks(content[None], torch.ones_like(content[None]).bool())[0]
            content = (best < int(cells * (1 - self.alpha))).float()
            owner = torch.arange(cells, device=content.device) * tiles // cells
        else:
            whole = [range(seen.grid.side * n) for n in seen.grid.tiles]
            rows, columns = (seen.counts.rows, seen.counts.columns) if self.exact else whole
            owner = cover(seen.grid, rows, columns, content.device)
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


def cover(grid: Grid, rows: Sequence[int], columns: Sequence[int], device: torch.device) -> Tensor:
    """Find the local tile of each cell of the overview; the picture fills these lines of the canvas.  (N,) int64."""
    middle = 2 * torch.arange(grid.side, device=device) + 1  # of a cell, in halves of a cell
    lines = (spread.at(line, middle * len(line) // (2 * grid.side)) // grid.side for line in (rows, columns))
    y, x = lines  # each (side,)
    return (y[:, None] * grid.tiles[1] + x).flatten()
