"""HERO+: HERO and two rules of this library: repeated patches wait, and the share of the overview grows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from herovlm.errors import MethodError
from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.fields import within
from herovlm.methods.signals import read
from herovlm.ops import allocate, select
from herovlm.ops.fit import fit
from herovlm.ops.hero import STATE, balance, parts, tile_weights, two_stages
from herovlm.ops.novelty import novelty
from herovlm.types import Kept, Needs, Newlines, Relevance, Seen, Signal


@dataclass(frozen=True, kw_only=True)
class HeroPlus(Method):
    """HERO, and two rules of this library: a patch that repeats a better one waits, and the overview's share grows.

    Tiles are weighed and patches scored as `hero` does (arXiv 2509.13067).  Then a patch's score is multiplied by its
    novelty: 1 minus the largest cosine of its state with that of a better patch of its tile.  And of the budget the
    thumbnail (the overview) gets `overview * keep` times what its share of the valid patches is: little when little is
    kept, much when much is.  Neither rule is in the paper; both were chosen on development scenes of the demo model.
    What stands in for CLS rows by another `signal`, and for the overview where there is none, is as in `hero`.
    """

    novelty: float = 1.0  # power of a patch's novelty on its score; 0 = the score alone, as in `hero`
    overview: float = 10.0  # the thumbnail's valid patches count `overview * keep` times; 0 = once, as in `hero`
    low_layers: tuple[Layer, ...] = (0.64, 0.73)  # for local tiles; 5 is block 5, 0.25 a quarter of the way up
    high_layers: tuple[Layer, ...] = (0.95,)  # for the thumbnail
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")
    alpha: float | None = None  # saliency against relevance; None = 0.25, or 1, without a question, by another signal
    t_cls: float = 0.1  # temperature of the saliency
    t_clip: float = 0.03  # temperature of the relevance
    density: float = 0.2  # weight of d, a tile's share that is not padding
    thumbnail: float | None = None  # share of the patches for the thumbnail, whatever the budget; None = by `overview`
    relevance: Relevance = "tower"  # tile-question cosine from the model's own tower, or from the original CLIP

    name = "hero_plus"
    paper = "arXiv 2509.13067"
    fidelity = "of this library"
    formula = "kept[t] = top n[t] of CLS row · novelty^p, n as hero, n[0] ~ overview · keep · valid[0]"
    fixed = True

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 0, 1, "alpha", "density", "thumbnail")
        within(self, 1e-6, math.inf, "t_cls", "t_clip")
        within(self, 0, math.inf, "novelty", "overview")

    def needs(self, depth: int) -> Needs:
        """What `hero` needs, and the states of the patches to compare them by."""
        layers = resolve((*self.low_layers, *self.high_layers), depth)
        alpha = balance(self.alpha, self.signal)
        states = {"hidden": self.novelty > 0} | ({STATE[self.signal]: True} if alpha > 0 else {})
        return read(self.signal, layers, relevance=self.relevance if alpha < 1 else None, **states)

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Score patches, weigh tiles, and spend the budget."""
        valid = seen.valid
        high, low = (resolve(layers, seen.depth) for layers in (self.high_layers, self.low_layers))
        scores = two_stages(seen, high, low, signal=self.signal)  # (T, N)
        alpha, heat = balance(self.alpha, self.signal), {"t_cls": self.t_cls, "t_clip": self.t_clip}
        why = tile_weights(seen, scores, signal=self.signal, alpha=alpha, density=self.density, **heat)
        why["score"], weight = scores, seen.grid.local(why["weight"])  # weight (K,)
        if self.novelty:
            if seen.hidden is None:
                raise MethodError(f"hero_plus(novelty={self.novelty}) compares states of patches: none were recorded")
            why["novelty"] = novelty(seen.hidden, select.ranks(scores, valid))
            scores = scores * why["novelty"] ** self.novelty
        times = self.overview * budget / seen.positions if self.overview else 1
        both = parts(seen, self.thumbnail, times)
        ranks = select.ranks(scores, valid)

        def patches(n: int) -> Tensor:
            return ranks < allocate.nested(both, weight, n, seen.counts)[:, None]

        return Kept(*fit(patches, seen, scores, budget, newlines), why=why)
