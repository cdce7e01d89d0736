"""GlobalCom2: the thumbnail says how much each tile keeps, and has a say in which patches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.fields import within
from herovlm.ops import allocate, keys, select, spread
from herovlm.ops.fit import closed_by, fit
from herovlm.types import Grid, Kept, Needs, Newlines, Seen

GUARD = 1e-8  # in the authors' softmax; kept because a floor can hang on it


@dataclass(frozen=True, kw_only=True)
class GlobalCom2(Method):
    """Keep more of the tiles that the thumbnail looks at, by the CLS logits of tile and thumbnail (arXiv 2501.05179).

    The thumbnail is cut into as many equal parts as there are local tiles, and a tile's share grows with the softmax
    of its part's summed logits.  A patch scores the sum of two unit vectors over its tile's valid cells: the tile's
    own logits, and the thumbnail's, stretched over the part of the canvas that is not padding.  Logits are head means
    before the softmax and can be negative.  `variant="official"` is the authors' code on LLaVA-NeXT index for index:
    it rounds `share` for itself, loses what floor and clip cut off and puts newlines outside, so its total is not the
    budget; the default spends the budget exactly, the thumbnail getting its share of the valid patches.
    """

    variant: Literal["herovlm", "official"] = "herovlm"  # the exact budget, or the authors' rounding and newlines
    layer: Layer = -1  # block whose CLS query and keys make the logits
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
        return Needs(keys=resolve((self.layer,), depth))

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Scale the tiles, score the patches, and spend the budget."""
        valid, (block,) = seen.valid, resolve((self.layer,), seen.depth)
        logits = keys.cls_products(seen.keys, seen.queries, block)[:, 1:]  # (T, N), times `unit`
        unit = (seen.keys[block].shape[-1] / seen.heads) ** 0.5 * seen.heads
        scale = self.scale(logits[0], unit, seen.grid)
        both = torch.cat([logits * valid, stretched(logits[0], seen)]).view(2, *valid.shape)
        scores = torch.nn.functional.normalize(both, dim=-1).sum(0)
        why = {"score": scores, "scale": (share * scale).clamp(max=1)}
        ranks, room = select.ranks(scores, valid), valid.sum(1)
        if not self.exact:
            granted = (room * why["scale"]).floor().to(torch.int64)
            mask = select.top(ranks, granted, valid)
            return Kept(mask, closed_by(seen.grid, mask, newlines or "canvas"), why=why)
        weight, (whole, *local) = (room * scale)[1:], seen.counts.room

        def patches(n: int) -> Tensor:
            return ranks < allocate.nested((whole, sum(local)), weight, n, seen.counts)[:, None]

        return Kept(*fit(patches, seen, scores, budget, newlines), why=why)

    def scale(self, thumbnail: Tensor, unit: float, grid: Grid) -> Tensor:
        """Scale each tile's share by the thumbnail's logits (N,): (T,) float64, 1 on average over the local tiles."""
        (rows, cols), side = grid.tiles, grid.side
        whole = torch.ones(1 + rows * cols, dtype=torch.float64, device=thumbnail.device)
        if not rows * cols:
            return whole
        place = torch.arange(side, device=thumbnail.device)
        part = (place * rows // side * cols)[:, None] + place * cols // side  # (side, side): local tile of each cell
        of = (part.flatten() == torch.arange(-1, rows * cols, device=place.device)[:, None]).double()  # (T, N)
        size = of.sum(1, keepdim=True)  # as if all parts were equal; the thumbnail's own row has none and no say
        of = of / size.clamp(min=1) * (side * side / (rows * cols) / self.temperature / unit)
        local = torch.zeros_like(size[:, 0]).masked_fill(size[:, 0] == 0, -torch.inf)
        s = torch.addmv(local, of, thumbnail.double()).softmax(0)
        mean: float | Tensor = 1 / (rows * cols)
        if not self.exact:
            s = s / (1 + GUARD * s.amax())
            mean = s.sum() * mean
        return s + torch.where(local == 0, 1 - mean, 1)


def stretched(thumbnail: Tensor, seen: Seen) -> Tensor:
    """Stretch the thumbnail's logits (N,) over what is not padding of the canvas: (T, N), itself for tile 0."""
    grid, (rows, columns) = seen.grid, (seen.counts.rows, seen.counts.columns)
    whole, (height, width) = thumbnail[None], (grid.side * n for n in grid.tiles)
    if not rows or not columns:  # one tile, or a picture so thin that un-padding leaves nothing of the canvas
        return torch.nn.functional.pad(whole, (0, 0, 0, len(seen.valid) - 1))
    square = thumbnail.view(1, 1, grid.side, grid.side)
    picture = torch.nn.functional.interpolate(square, (len(rows), len(columns)), mode="bilinear")[0, 0]
    return torch.cat([whole, grid.cut(spread.laid(picture, rows, columns, (height, width)))])
