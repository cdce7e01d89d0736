"""PruMerge: keep what the CLS token looks at, and add to each kept patch what is near it by key."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from herovlm.errors import MethodError
from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.fields import within
from herovlm.ops import allocate, keys, merge, score, select
from herovlm.ops.fit import closed_by, divided, fit
from herovlm.types import Kept, Needs, Newlines, Seen


@dataclass(frozen=True, kw_only=True)
class PruMerge(Method):
    """Keep what the last block's CLS token looks at, and add to each patch its neighbours by key (arXiv 2403.15388).

    Attention is one softmax over all channels, heads not told apart.  Each kept patch is a centre and collects the
    attention-weighted states of its nearest patches, other centres among them; weights do not sum to 1.  The rest of
    the tile, weighted so, makes one more token, which stands in the cell of the best patch of the rest.  A tile kept
    whole is left alone.  Merging is done before the projector.  The paper had one tile; here every tile is a picture
    of its own and keeps the same share of its valid patches.
    """

    layer: Layer = -1  # block whose CLS query and keys are read
    neighbours: int = 32  # patches that a centre collects
    variant: Literal["herovlm", "adaptive", "fixed"] = "herovlm"  # counts by budget, by outliers, or by a fixed share

    name = "prumerge"
    paper = "arXiv 2403.15388"
    fidelity = "golden parity"
    formula = "token[i] = x[i] + Σ a[j]·x[j] over the 32 keys j nearest to i, i in top a; one more: Σ_{rest} a[j]·x[j]"
    fixed = True
    published = (
        "The authors choose as many patches as attention has outliers (variant 'adaptive': more than 1.5 interquartile "
        "ranges above the third quartile), whatever the budget, or in training a share of the patches (variant "
        "'fixed'), and add the one token to them.  Their tokens stand in order of attention, ours in raster order."
    )

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        within(self, 1, math.inf, "neighbours")

    @property
    def exact(self) -> bool:
        """False for the authors' variants, which count for themselves."""
        return self.variant == "herovlm"

    def needs(self, depth: int) -> Needs:
        """CLS query and keys of the layer, and the states before the projector."""
        blocks = resolve((self.layer,), depth)
        return Needs(keys=blocks, queries=blocks, hidden=True)

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Choose the centres and the cell of the one more token in every tile, then merge."""
        valid, room, (block,) = seen.valid, seen.valid.sum(1), resolve((self.layer,), seen.depth)
        products, own = keys.cls_products(seen.keys, seen.queries, block), keys.of(seen.keys, block)
        scores = (products * own.shape[-1] ** -0.5).softmax(-1)[:, 1:]  # (T, N)
        if seen.hidden is None:
            raise MethodError(f"method {self.name!r} merges states before the projector, and none were recorded")
        why = {"score": scores}
        if self.exact:

            def patches(n: int) -> Tensor:
                granted = allocate.exact(room, n, room)
                return select.top(_ranks(scores, self.cells(valid, granted), valid), granted, valid)

            mask, rows = fit(patches, seen, scores, budget, newlines)
            cells, pool = self.cells(valid, mask.sum(1)), valid.long()
        else:
            count = (
                score.outliers(scores.masked_fill(~valid, torch.nan))
                if self.variant == "adaptive"
                else (room.double() * share).long()
            )
            why["best"] = count
            cells, best = self.cells(valid, count), select.top(select.ranks(scores, valid), count, valid)
            mask = select.top(_ranks(scores, cells, valid), (cells | best).sum(1) + 1, valid)
            rows, pool = closed_by(seen.grid, mask, newlines or "none"), self.pool(valid, cells, best)
        last = mask & (_ranks(scores, cells, mask) == mask.sum(1, keepdim=True) - 1)  # cell of the one more token
        granted = divided(seen, mask, budget, newlines) if self.exact else mask.sum(1).tolist()
        chosen, one = mask & ~last, merge.kept(last, [1] * len(mask))
        hidden = []
        for t, (count, all_) in enumerate(zip(granted, merge.kept(mask, granted), strict=True)):
            x, a = seen.hidden[t].float(), scores[t]
            if count == seen.counts.room[t]:
                hidden.append(x[all_])
            elif count:
                (centres,) = merge.kept(chosen[t : t + 1], [count - 1])
                rest = (pool[t] * a).masked_fill(chosen[t], 0) @ x
                made = torch.cat([keys.collect(x, own[t], a, centres, pool[t], self.neighbours), rest[None]])
                hidden.append(made[torch.cat([centres, one[t]]).argsort()])
        return Kept(mask, rows, hidden=torch.cat(hidden).to(seen.hidden.dtype), why=why)

    def cells(self, valid: Tensor, count: Tensor) -> Tensor:
        """Choose the cells that are centres whatever they score, (T, N) bool; PruMerge has none.

        `count` (T,) is the number of tokens of each tile, or of centres by attention in the authors' variants.
        """
        return torch.zeros_like(valid)

    def pool(self, valid: Tensor, cells: Tensor, best: Tensor) -> Tensor:
        """Count how many times each patch can be merged into others, (T, N) int64, in the authors' variants."""
        return valid.long()


def _ranks(scores: Tensor, cells: Tensor, ok: Tensor) -> Tensor:
    """Rank as `select.ranks`, the cells that are centres anyway before all others."""
    return select.ranks(scores.masked_fill(cells, torch.inf), ok)
