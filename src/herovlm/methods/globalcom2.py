"""GlobalCom2: the thumbnail says how much each tile keeps, and has a say in which patches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from herovlm.methods.base import Layer, Method, overview_of, resolve
from herovlm.methods.fields import within
from herovlm.methods.signals import read
from herovlm.ops import allocate, keys, score, select
from herovlm.ops.fit import closed_by, fit
from herovlm.ops.overview import parts, stretched
from herovlm.types import Kept, Needs, Newlines, Seen, Signal

GUARD = 1e-8  # in the authors' softmax; kept because a floor can hang on it
FAINT = 1e-6  # attention that counts as none


@dataclass(frozen=True, kw_only=True)
class GlobalCom2(Method):
    """Keep more of the tiles that the thumbnail looks at, by the CLS logits of tile and thumbnail (arXiv 2501.05179).

    The thumbnail is cut into as many equal parts as there are local tiles, and a tile's share grows with the softmax
    of its part's summed logits.  A patch scores the sum of two unit vectors over its tile's valid cells: the tile's
    own logits, and the thumbnail's, stretched over the part of the canvas that is not padding.  Logits are head means
    before the softmax and can be negative.  `variant="official"` is the authors' code on LLaVA-NeXT index for index:
    it rounds `share` for itself, loses what floor and clip cut off and puts newlines outside, so its total is not the
    budget; the default spends the budget exactly, the thumbnail getting its share of the valid patches.

    Another `signal` gives logarithms of its attention, less their mean over the tile, for logits.  Without an overview
    the tiles' own logits are summed, a patch scores by them alone, and `variant="official"` is refused.
    """

    variant: Literal["herovlm", "official"] = "herovlm"  # the exact budget, or the authors' rounding and newlines
    layer: Layer = -1  # block whose CLS query and keys make the logits
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")
    temperature: float = 10.0  # of the softmax over summed logits: smaller is sharper

    name = "globalcom2"
    paper = "arXiv 2501.05179"
    fidelity = "golden parity"
    formula = "keep[t] = r·(1 + s[t] − mean s), s = softmax(Σ_{part t of the thumbnail} logit / 10)"
    fixed = True
    published = (
        "The authors' code floors every tile's count, clips shares at 1 without handing the rest on, keeps one newline "
        "for every row of the padded canvas, and sends the thumbnail's patches in order of their score."
    )

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        within(self, 1e-6, math.inf, "temperature")

    @property
    def exact(self) -> bool:
        """False for the authors' allocation: losses and newlines stand outside the budget."""
        return self.variant == "herovlm"

    def needs(self, depth: int) -> Needs:
        """CLS query and keys of the layer."""
        blocks = resolve((self.layer,), depth)
        return Needs(keys=blocks, queries=blocks) if self.signal == "cls" else read(self.signal, blocks)

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Scale the tiles, score the patches, and spend the budget."""
        valid, grid = seen.valid, seen.grid
        logits, unit = self.logits(seen)  # (T, N), times `unit`
        scale, both = self.scale(logits, unit, seen), [logits * valid]
        if grid.overview:
            both.append(stretched(logits[0], seen))
        scores = torch.nn.functional.normalize(torch.cat(both).view(-1, *valid.shape), dim=-1).sum(0)
        why = {"score": scores, "scale": (share * scale).clamp(max=1)}
        ranks, room = select.ranks(scores, valid), valid.sum(1)
        if not self.exact:
            overview_of(self, seen, "globalcom2")
            granted = (room * why["scale"]).floor().to(torch.int64)
            mask = select.top(ranks, granted, valid)
            return Kept(mask, closed_by(seen.grid, mask, newlines or "canvas"), why=why)
        weight, shares = grid.local(room * scale), [sum(of(seen.counts.room)) for of in (grid.whole, grid.local)]

        def patches(n: int) -> Tensor:
            return ranks < allocate.nested(shares, weight, n, seen.counts)[:, None]

        return Kept(*fit(patches, seen, scores, budget, newlines), why=why)

    def logits(self, seen: Seen) -> tuple[Tensor, float]:
        """Logits of every patch, (T, N), and what they have been multiplied by."""
        blocks, valid = resolve((self.layer,), seen.depth), seen.valid
        if self.signal != "cls":
            logs = score.rows(seen, self.signal, blocks).clamp(min=FAINT).log() * valid
            return logs - logs.sum() / valid.sum(), 1.0
        products = keys.cls_products(seen.keys, seen.queries, blocks[0])[:, 1:]
        return products, (seen.keys[blocks[0]].shape[-1] / seen.heads) ** 0.5 * seen.heads

    def scale(self, logits: Tensor, unit: float, seen: Seen) -> Tensor:
        """Scale each tile's share by logits (T, N): (T,) float64, 1 on average over the local tiles."""
        tiles = len(seen.grid.local(seen.counts.room))
        if not tiles:
            return torch.ones(len(logits), dtype=torch.float64, device=logits.device)
        each = logits.shape[1] / tiles / self.temperature / unit  # as if all parts were equal
        if not seen.grid.overview:
            means = (logits * seen.valid).double().sum(1) / seen.valid.sum(1).clamp(min=1)
            return (means * each).softmax(0) + 1 - 1 / tiles
        of = parts(seen).double()  # (T, N)
        size = of.sum(1, keepdim=True)  # the thumbnail's own row has none and no say
        of = of / size.clamp(min=1) * each
        local = torch.zeros_like(size[:, 0]).masked_fill(size[:, 0] == 0, -torch.inf)
        s = torch.addmv(local, of, logits[0].double()).softmax(0)
        mean: float | Tensor = 1 / tiles
        if not self.exact:
            s = s / (1 + GUARD * s.amax())
            mean = s.sum() * mean
        return s + torch.where(local == 0, 1 - mean, 1)
