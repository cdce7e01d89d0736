"""The thumbnail alone: how far the overview carries."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from herovlm.errors import MethodError
from herovlm.methods.base import Layer, Method, overview_of, resolve
from herovlm.methods.signals import read
from herovlm.ops import score, select
from herovlm.types import Kept, Needs, Newlines, Seen, Signal


@dataclass(frozen=True, kw_only=True)
class Thumbnail(Method):
    """Keep the thumbnail's patches with the highest deep CLS attention, and nothing else.

    It keeps fewer positions than asked where the thumbnail has no more (`exact` is False); a budget of all positions
    is the untouched model, as for every method.  It is refused where there is no overview.
    """

    layers: tuple[Layer, ...] = (0.95,)  # whose CLS attention is averaged; 5 is block 5, 0.25 a quarter of the way up
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")

    name = "thumbnail"
    whole = True
    paper = "baseline"
    fidelity = "baseline"
    formula = "kept = top P of mean_{layers, heads} CLS row of tile 0"

    @property
    def exact(self) -> bool:
        """False: never more than the thumbnail has."""
        return False

    def needs(self, depth: int) -> Needs:
        """CLS rows of the named layers."""
        return read(self.signal, resolve(self.layers, depth))

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Take the best of tile 0."""
        overview_of(self, seen, "uniform, pool or cls_topk")
        if len(seen.valid) > 1 and bool((seen.valid[0] & (seen.grid.row[0] >= 0)).any()):
            raise MethodError("method 'thumbnail' needs tile 0 to be a thumbnail, which stands outside the canvas")
        scores = score.rows(seen, self.signal, resolve(self.layers, seen.depth))  # (T, N)
        granted = torch.zeros_like(seen.valid.sum(1))
        granted[0] = budget
        mask = select.top(select.ranks(scores, seen.valid), granted, seen.valid)
        return Kept(mask, torch.zeros_like(seen.grid.sent), why={"score": scores})
