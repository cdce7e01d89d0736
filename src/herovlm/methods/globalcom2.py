"""GlobalCom2: the thumbnail says how much each tile keeps, and has a say in which patches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.fields import within
from herovlm.ops import allocate, keys, select
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
        valid, room, (block,) = seen.valid, seen.valid.sum(1), resolve((self.layer,), seen.depth)
        products = keys.cls_products(seen.keys, seen.queries, block)[:, 1:]
        logits = products * (seen.keys[block].shape[-1] / seen.heads) ** -0.5 / seen.heads  # (T, N)
        scale = self.scale(logits[0], seen.grid)
        scores = unit(logits, valid) + unit(stretched(logits[0], seen.grid, valid), valid)
        why = {"score": scores, "scale": (share * scale).clamp(max=1)}
        ranks = select.ranks(scores, valid)
        if not self.exact:
            granted = (room * why["scale"]).floor().to(torch.int64)
            mask = select.top(ranks, granted, valid)
            return Kept(mask, closed_by(seen.grid, mask, newlines or "canvas"), why=why)
        pair = torch.stack([room[0], room[1:].sum()])  # thumbnail, all local tiles

        def patches(n: int) -> Tensor:
            first = allocate.exact(pair, n, pair)[:1]
            rest = allocate.exact(room[1:] * scale[1:], n - int(first), room[1:])
            return select.top(ranks, torch.cat([first, rest]), valid)

        return Kept(*fit(patches, seen, scores, budget, newlines), why=why)

    def scale(self, thumbnail: Tensor, grid: Grid) -> Tensor:
        """Scale each tile's share by the thumbnail's logits (N,): (T,) float64, 1 on average over the local tiles."""
        (rows, cols), side = grid.tiles, grid.side
        whole = torch.ones(1, dtype=torch.float64, device=thumbnail.device)
        if not rows * cols:
            return whole
        place = torch.arange(side, device=thumbnail.device)
        part = (place * rows // side * cols)[:, None] + place * cols // side  # (side, side): local tile of each cell
        of = torch.nn.functional.one_hot(part.flatten(), rows * cols).double()  # (N, K)
        total = thumbnail.double() @ of / of.sum(0) * (side * side / (rows * cols))  # as if all parts were equal
        e = ((total - total.max()) / self.temperature).exp()
        s = e / (e.sum() + GUARD)
        return torch.cat([whole, 1 + s - s.mean()])


def stretched(thumbnail: Tensor, grid: Grid, valid: Tensor) -> Tensor:
    """Stretch the thumbnail's logits (N,) over what is not padding of the canvas: (T, N), itself for tile 0."""
    (rows, cols), side = grid.tiles, grid.side
    over = torch.zeros(valid.shape, device=valid.device)
    over[0] = thumbnail
    if not valid[1:].any():  # one tile, or a picture so thin that un-padding leaves nothing of the canvas
        return over
    cells = grid.order[grid.order >= side * side].view(rows * side, cols * side)  # flat patches of the canvas
    there = valid.flatten()[cells]
    cells = cells[there.any(1)][:, there.any(0)]
    square = thumbnail.view(1, 1, side, side)
    over.view(-1)[cells] = torch.nn.functional.interpolate(square, cells.shape, mode="bilinear")[0, 0]
    return over


def unit(values: Tensor, valid: Tensor) -> Tensor:
    """Make the valid cells of each tile a vector of length 1."""
    return torch.nn.functional.normalize(values * valid, dim=-1)
