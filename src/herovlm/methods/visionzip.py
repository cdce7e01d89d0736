"""VisionZip: a few dominant patches as they are, and the rest of each tile merged into contextual tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from herovlm.errors import MethodError
from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.fields import within
from herovlm.methods.signals import read
from herovlm.ops import allocate, keys, merge, score, select, spread
from herovlm.ops.fit import closed_by, divided, fit
from herovlm.types import Kept, Needs, Newlines, Seen, Signal


@dataclass(frozen=True, kw_only=True)
class VisionZip(Method):
    """Send what the CLS token looks at most, and merge the rest of a tile into contextual tokens (arXiv 2412.04467).

    Centres are every n-th patch of the rest, in raster order; each other patch joins the centre whose key, averaged
    over heads, is nearest by cosine.  Merging is done before the projector, and a contextual token stands in its
    centre's cell.  Every tile is zipped on its own with the same share of its valid patches, as in the paper on
    LLaVA-NeXT, where all tiles get the same number.

    In the paper's own numbers, `visionzip(dominant=54, contextual=10)` sends 64 tokens of every tile, or as many as
    are not padding, whatever `keep` says.  The paper's 54 hold the CLS token; here the next patch has its place.
    """

    layer: Layer = -2  # block whose CLS attention and keys are read; -2: whose states LLaVA's projector reads
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")
    contextual: float = 10 / 64  # share of a tile's tokens that are contextual (the paper's 10 of 64), or a count
    dominant: int | None = None  # dominant patches of each tile; `contextual` is a count then.  None: by the budget
    merge: Literal["centre + mean", "mean"] = "centre + mean"  # mean of the others as the authors do, or of all

    name = "visionzip"
    paper = "arXiv 2412.04467"
    fidelity = "golden parity"
    formula = "dominant = top a; contextual[c] = x[c] + mean of x[j], c = argmax over centres of cos(key[j], key[c])"
    fixed = True
    published = (
        "VisionZip also sends the CLS state of every tile and counts it as dominant; it is no patch, and herovlm does "
        "not send it.  On tiled pictures its code spends the same number on every tile, padding included, sends no "
        "newline, and puts the contextual tokens of all local tiles at the end.  It counts from a fixed 2,880 "
        "positions on LLaVA-NeXT, five tiles without un-padding; that is not offered, for padding is never kept here "
        "and keep=1.0 is the untouched model, which un-pads."
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 1, math.inf, "dominant")
        within(self, 0, 1 if self.exact else math.inf, "contextual")
        if not self.exact and self.contextual % 1:
            raise MethodError(f"{self}: two counts or none; with dominant=, contextual is a whole number too")

    @property
    def exact(self) -> bool:
        """False where a tile's tokens are counted, whatever the budget."""
        return self.dominant is None

    def needs(self, depth: int) -> Needs:
        """CLS rows and keys of the layer, and the states before the projector."""
        return read(self.signal, blocks := resolve((self.layer,), depth), keys=blocks, hidden=True)

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Choose dominant patches and centres, then merge the others into the centres."""
        blocks, valid, room = resolve((self.layer,), seen.depth), seen.valid, seen.valid.sum(1)
        scores = score.rows(seen, self.signal, blocks)  # (T, N)
        by_head = keys.of(seen.keys, blocks[0]).reshape(*valid.shape, seen.heads, -1)  # (T, N, H, C / H)
        if seen.hidden is None:
            raise MethodError("method 'visionzip' merges the states before the projector, which were not recorded")
        ranks = select.ranks(scores, valid)

        def patches(n: int) -> Tensor:
            granted = self.tokens(n, room)
            dominant = select.top(ranks, granted - (merged := self.merged(granted)), valid)
            rest = valid & ~dominant
            step = (rest.sum(1) // merged.clamp(min=1)).clamp(min=1)
            return dominant | spread.stepped(rest, step, 0 * step, step * merged)

        if self.exact:
            mask, rows = fit(patches, seen, scores, budget, newlines)
            granted = divided(seen, mask, budget, newlines)
            counts = [round(n * self.contextual) for n in granted]
        else:
            mask = patches(budget)
            rows = closed_by(seen.grid, mask, newlines or "none")
            granted, counts = mask.sum(1).tolist(), self.merged(mask.sum(1)).tolist()
        centres = mask & (select.ranks(scores, mask) >= (mask.sum(1) - self.merged(mask.sum(1)))[:, None])
        owner = merge.owners(by_head.mean(2), valid, mask, centres, counts)
        plain = merge.kept(mask & ~centres, [n - m for n, m in zip(granted, counts, strict=True)])
        hidden = [
            torch.cat([x[alone], self.zipped(x, own, at)])[torch.cat([alone, at]).argsort()]
            for x, own, alone, at in zip(seen.hidden.float(), owner, plain, merge.kept(centres, counts), strict=True)
        ]
        return Kept(mask, rows, hidden=torch.cat(hidden).to(seen.hidden.dtype), why={"score": scores, "owner": owner})

    def tokens(self, patches: int, room: Tensor) -> Tensor:
        """Divide so many patches among the tiles, or give each its count, (T,) int64."""
        if self.dominant is None:
            return allocate.exact(room, patches, room)
        return room.clamp(max=self.dominant + int(self.contextual))

    def merged(self, granted: Tensor) -> Tensor:
        """Count the contextual tokens of each tile, (T,) int64."""
        if self.dominant is None:
            return (granted.double() * self.contextual).round().to(torch.int64)
        return (granted - self.dominant).clamp(0, int(self.contextual))

    def zipped(self, x: Tensor, owner: Tensor, centres: Tensor) -> Tensor:
        """Merge what the centres (M,) of one tile own: (N, C), (N,) -> (M, C)."""
        mine = (owner == centres[:, None]) & (torch.arange(len(x), device=x.device) != centres[:, None])  # (M, N)
        others, total = mine.sum(1, keepdim=True), mine.to(x.dtype) @ x
        return (x[centres] + total) / (1 + others) if self.merge == "mean" else x[centres] + total / others.clamp(min=1)
