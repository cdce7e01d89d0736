"""HERO: spend the budget on the tiles that matter, and in each tile on patches the CLS token looks at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor
from torch.nn.functional import pad

from herovlm.errors import MethodError
from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.fields import within
from herovlm.methods.signals import read
from herovlm.ops import allocate, select
from herovlm.ops.fit import closed_by, fit
from herovlm.ops.hero import STATE, balance, parts, tile_weights, two_stages
from herovlm.types import Kept, Needs, Newlines, Relevance, Seen, Signal

Allocation = Literal["exact", "floored"]


class Rules(NamedTuple):
    """What a variant settles; the fields of Hero of the same names override it."""

    double_softmax: bool
    allocation: Allocation
    relevance: Relevance
    newlines: Newlines


VARIANTS = {"paper": Rules(False, "exact", "tower", "none"), "official": Rules(True, "floored", "clip", "canvas")}


@dataclass(frozen=True, kw_only=True)
class Hero(Method):
    """HERO: tile budgets by saliency and relevance, patches by the two stages of CLS attention (arXiv 2509.13067).

    Deep layers score the thumbnail (artifact tokens: the picture as a whole), low-to-middle layers the local tiles
    (object tokens: detail).  A tile weighs `density * d + (1 - density) * (alpha * s + (1 - alpha) * r)`: d its share
    that is not padding, s saliency, r relevance.  Without local tiles the thumbnail gets everything.  The paper's
    layers, alpha and temperatures were never published; the defaults are this library's, chosen on development scenes
    of its demo model.  What this library adds to the rules is the method `hero_plus`.

    Without CLS rows `signal` says whose attention stands in; the patches' states before the projector, summed by it,
    stand in for the CLS states; nothing for relevance.  Without an overview the mean of the tiles' states is its state.
    """

    variant: Literal["paper", "official"] = "paper"  # the rules as printed, or the authors' code
    low_layers: tuple[Layer, ...] = (0.64, 0.73)  # for local tiles; 5 is block 5, 0.25 a quarter of the way up
    high_layers: tuple[Layer, ...] = (0.95,)  # for the thumbnail
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")
    alpha: float | None = None  # saliency against relevance; None = 0.25, or 1, without a question, by another signal
    t_cls: float = 0.1  # temperature of the saliency, T_cls
    t_clip: float = 0.03  # temperature of the relevance, T_clip
    density: float = 0.2  # weight of d
    thumbnail: float | None = None  # share of the patches for the thumbnail; None = its share of the valid patches
    double_softmax: bool | None = None  # a second softmax over attention flattens it; None, here and below: as variant
    allocation: Allocation | None = None  # of the budget; "floored" loses what floor and clamp cut off
    relevance: Relevance | None = None  # tile-question cosine from the model's own tower, or from the original CLIP

    name = "hero"
    paper = "arXiv 2509.13067"
    fidelity = "golden parity"  # of variant="official"
    formula = "kept[t] = top n[t] of mean_{layers, heads} CLS row, n ~ λ·density + (1 − λ)·(α·saliency + (1 − α)·rel.)"
    fixed = True
    published = "variant='official' is it, index for index: floors lose budget, all rows of the canvas keep newlines."
    moved: ClassVar[Mapping[str, str]] = {"novelty": "hero_plus(novelty=...)", "gist": "hero_plus(overview=...)"}

    def __post_init__(self) -> None:
        if self.variant == "herovlm":  # type: ignore[comparison-overlap]  # its name until 0.1.0
            raise MethodError("hero(variant='herovlm') is a method of its own now; write hero_plus")
        super().__post_init__()
        within(self, 0, 1, "alpha", "density", "thumbnail")
        within(self, 1e-6, math.inf, "t_cls", "t_clip")
        if self.signal != "cls" and self.rules.double_softmax:
            raise MethodError(f"{self}: a second softmax is the authors' over CLS rows; use variant='paper'")
        if self.exact and self.rules.newlines == "canvas":
            raise MethodError('newlines="canvas" stand outside the budget: only with allocation="floored"')

    @property
    def rules(self) -> Rules:
        """What the variant settles, with the overrides of the fields."""
        own = {name: value for name in Rules._fields if (value := getattr(self, name)) is not None}
        return VARIANTS[self.variant]._replace(**own)

    @property
    def exact(self) -> bool:
        """False for the authors' allocation: losses and newlines stand outside the budget."""
        return self.rules.allocation == "exact"

    def needs(self, depth: int) -> Needs:
        """CLS rows of the named layers, the CLS state for saliency, and relevance unless alpha = 1."""
        layers = resolve((*self.low_layers, *self.high_layers), depth)
        alpha, relevance = balance(self.alpha, self.signal), self.rules.relevance
        return read(self.signal, layers, relevance=relevance if alpha < 1 else None, **{STATE[self.signal]: alpha > 0})

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Score patches, weigh tiles, and spend the budget."""
        valid, rule, grid = seen.valid, newlines or self.rules.newlines, seen.grid
        high, low = (resolve(layers, seen.depth) for layers in (self.high_layers, self.low_layers))
        scores = two_stages(seen, high, low, signal=self.signal, again=self.rules.double_softmax)
        why = self.weigh(seen, scores)  # scores (T, N)
        why["score"], weight, ranks = scores, grid.local(why["weight"]), select.ranks(scores, valid)  # weight (K,)
        if not self.exact:
            granted = allocate.floored(weight, int(grid.local(valid).numel() * share), grid.local(valid).sum(1))
            mask = select.top(ranks, pad(granted, (grid.lead, 0), value=int(valid.shape[1] * share)), valid)
            return Kept(mask, closed_by(seen.grid, mask, rule), why=why)

        def patches(n: int) -> Tensor:
            return ranks < allocate.nested(parts(seen, self.thumbnail), weight, n, seen.counts)[:, None]

        return Kept(*fit(patches, seen, scores, budget, rule), why=why)

    def weigh(self, seen: Seen, scores: Tensor | None = None) -> dict[str, Tensor]:
        """Weigh the local tiles: each term and the weight, (T,) with 0 for the thumbnail; CLS rows need no scores."""
        alpha, heat = balance(self.alpha, self.signal), {"t_cls": self.t_cls, "t_clip": self.t_clip}
        return tile_weights(seen, scores, signal=self.signal, alpha=alpha, density=self.density, **heat)
