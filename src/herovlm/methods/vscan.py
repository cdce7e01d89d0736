"""VScan, its stage before the LLM: patches that a shallow block looks at in every window, and a deep one at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from herovlm.errors import MethodError
from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.fields import within
from herovlm.methods.signals import read
from herovlm.ops import allocate, merge, score, select
from herovlm.ops.fit import closed_by, divided, fit
from herovlm.types import Kept, Needs, Newlines, Seen, Signal


@dataclass(frozen=True, kw_only=True)
class VScan(Method):
    """Keep the best of each window by a shallow CLS row, and of the tile by a deep one, and merge (arXiv 2505.22654).

    A tile is cut into windows, and half of what it keeps is divided among them, by the patches that each has; the
    other half are the best of those left.  Every other patch is averaged into the kept one whose feature, as the LLM
    reads it, is nearest by cosine.  The paper's second stage, inside the LLM, is not here.
    """

    variant: Literal["herovlm", "official"] = "herovlm"  # the exact budget, or the authors' rounding and newlines
    local: float = 0.5  # share of a tile's kept patches that the windows choose
    windows: int = 4  # windows on a side of a tile
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")
    shallow: Layer = 0.22  # block whose CLS row chooses in the windows: 5 of 24, counted from 0
    deep: Layer = -2  # block whose CLS row chooses in the whole tile

    name = "vscan"
    fixed = True
    paper = "arXiv 2505.22654"
    fidelity = "golden parity"
    formula = (
        "kept = ⋃_windows top k of CLS row[shallow] ∪ top of CLS row[deep]; token[c] = mean of x[c] and all nearest it"
    )
    published = (
        "The authors' code gives every window the same whole number of patches and loses what is left over, so that of "
        "46 tokens 39 are kept, and closes every row of the un-padded canvas with a newline on top; that is variant "
        "'official'.  Its patches that are wholly padding compete, absorb others, and are then cut away."
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 0, 1, "local")
        within(self, 1, math.inf, "windows")

    @property
    def exact(self) -> bool:
        """False for the authors' rounding; newlines stand outside its count."""
        return self.variant == "herovlm"

    def needs(self, depth: int) -> Needs:
        """CLS rows of two blocks."""
        return read(self.signal, resolve((self.shallow, self.deep), depth))

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Choose in the windows, then in the whole tile, then merge."""
        if seen.features is None:
            raise MethodError("method 'vscan' merges features, and none were recorded")
        valid = seen.valid
        blocks = [resolve((block,), seen.depth) for block in (self.shallow, self.deep)]
        near, far = (score.rows(seen, self.signal, block) for block in blocks)
        inside = valid[:, None] & windows(seen.grid.side, self.windows).to(valid.device)  # (T, W, N)
        ranks = select.ranks(near[:, None].expand(inside.shape).flatten(0, 1), inside.flatten(0, 1))

        def patches(n: int) -> Tensor:
            counts = allocate.shares(seen.counts.room, n, seen.counts.room)
            granted = torch.tensor(counts, device=valid.device)
            each = self.by_window(counts, inside.sum(2))
            local = select.top(ranks, each.flatten(), inside.flatten(0, 1)).view(inside.shape).any(1)
            rest = valid & ~local
            spent = local.sum(1) if self.exact else (granted * self.local).long()
            return local | select.top(select.ranks(far, rest), granted - spent, rest)

        if self.exact:
            mask, rows = fit(patches, seen, far, budget, newlines)
            counts = divided(seen, mask, budget, newlines)
        else:
            mask = patches(budget)
            rows, counts = closed_by(seen.grid, mask, newlines or "all"), mask.sum(1).tolist()
        merged = merge.by_likeness(seen.features, valid, mask, counts)
        return Kept(mask, rows, features=merged, why={"score": far, "window": near})

    def by_window(self, granted: Sequence[int], room: Tensor) -> Tensor:
        """Divide the windows' part of what each tile keeps among its windows, whose room is (T, W): (T, W)."""
        local = [int(n * self.local) for n in granted]
        if not self.exact:
            return torch.tensor(local, device=room.device)[:, None].expand(room.shape) // room.shape[1]
        return torch.stack([allocate.exact(own, n, own) for n, own in zip(local, room, strict=True)])


def windows(side: int, count: int) -> Tensor:
    """Cut a tile of side x side patches into count x count windows: (W, N) bool."""
    place = torch.arange(side) * count // side
    of = (place[:, None] * count + place).flatten()
    return of == torch.arange(count * count)[:, None]
