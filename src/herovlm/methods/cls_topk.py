"""The top patches by deep CLS attention, the same share in every tile: HERO without tile budgets and two stages."""

from __future__ import annotations

from dataclasses import dataclass

from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.signals import read
from herovlm.ops import score, select
from herovlm.ops.fit import fit
from herovlm.types import Kept, Needs, Newlines, Seen, Signal


@dataclass(frozen=True, kw_only=True)
class ClsTopK(Method):
    """Keep the patches with the highest deep CLS attention, the same share of every tile's valid patches."""

    layers: tuple[Layer, ...] = (0.95,)  # whose CLS attention is averaged; 5 is block 5, 0.25 a quarter of the way up
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")

    name = "cls_topk"
    paper = "baseline"
    fidelity = "baseline"
    formula = "kept[t] = top P·valid[t] / Σ valid of mean_{layers, heads} CLS row"
    fixed = True

    def needs(self, depth: int) -> Needs:
        """CLS rows of the named layers."""
        return read(self.signal, resolve(self.layers, depth))

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Score all tiles alike and divide the patches by the tiles' valid patches."""
        scores = score.rows(seen, self.signal, resolve(self.layers, seen.depth))  # (T, N)
        patches = select.by_score(scores, seen, "tile")
        return Kept(*fit(patches, seen, scores, budget, newlines), why={"score": scores})
