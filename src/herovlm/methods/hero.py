"""HERO: spend the budget on the tiles that matter, and in each tile on patches the CLS token looks at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from herovlm.errors import MethodError
from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.fields import within
from herovlm.methods.hero_rules import VARIANTS, Allocation, Rules, Variant
from herovlm.ops import allocate, score, select
from herovlm.ops.fit import closed_by, fit
from herovlm.ops.novelty import novelty
from herovlm.types import Kept, Needs, Newlines, Relevance, Seen


@dataclass(frozen=True, kw_only=True)
class Hero(Method):
    """HERO: tile budgets by saliency and relevance, patches by the two stages of CLS attention (arXiv 2509.13067).

    Deep layers score the thumbnail (artifact tokens: the gist), low-to-middle layers the local tiles (object tokens:
    detail).  A tile weighs `density * d + (1 - density) * (alpha * s + (1 - alpha) * r)`: d its share that is not
    padding, s saliency, r relevance.  Without local tiles the thumbnail gets everything.  The paper's layers, alpha and
    temperatures were never published; the defaults are ours, chosen on development scenes of the demo model.  So are
    two rules of `variant="herovlm"` that the paper does not have: `novelty` and `gist`.
    """

    variant: Variant = "herovlm"  # ours, the rules as printed, or the authors' code
    low_layers: tuple[Layer, ...] = (0.64, 0.73)  # for local tiles; 5 is block 5, 0.25 a quarter of the way up
    high_layers: tuple[Layer, ...] = (0.95,)  # for the thumbnail
    alpha: float = 0.25  # saliency against relevance; 1 needs no question
    t_cls: float = 0.1  # temperature of the saliency, T_cls
    t_clip: float = 0.03  # temperature of the relevance, T_clip
    density: float = 0.2  # weight of d
    thumbnail: float | None = None  # share of the patches for the thumbnail; None = by its valid patches and gist
    novelty: float | None = None  # power of a patch's novelty on its score; None, here and below, as the variant has it
    gist: float | None = None  # the thumbnail claims gist * keep times its share of the valid patches; 0 = its share
    double_softmax: bool | None = None  # a second softmax over attention, which all but flattens it
    allocation: Allocation | None = None  # of the budget; "floored" loses what floor and clamp cut off
    relevance: Relevance | None = None  # tile-question cosine from the model's own tower, or from the original CLIP

    name = "hero"
    paper = "arXiv 2509.13067"
    fidelity = "golden parity"  # of variant="official"
    formula = "kept[t] = top n[t] of CLS row · novelty, n ~ λ·density + (1 − λ)·(α·saliency + (1 − α)·relevance)"
    published = "variant='official' is it, index for index: floors lose budget, all rows of the canvas keep newlines."

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 0, 1, "alpha", "density", "thumbnail")
        within(self, 1e-6, math.inf, "t_cls", "t_clip")
        within(self, 0, math.inf, "novelty", "gist")
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
        relevance = self.rules.relevance if self.alpha < 1 else None
        return Needs(layers, cls=self.alpha > 0, relevance=relevance, hidden=self.rules.novelty > 0)

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Score patches, weigh tiles, and spend the budget."""
        rules, valid, room = self.rules, seen.valid, seen.valid.sum(1)
        blocks = [resolve(layers, seen.depth) for layers in (self.high_layers, self.low_layers)]
        high, low = (score.cls_rows(seen.attention, b, again=rules.double_softmax) for b in blocks)
        scores = torch.cat([high[:1], low[1:]])  # (T, N)
        why = self.weigh(seen, room[1:].float() / valid.shape[1]) | {"score": scores}
        if rules.novelty:
            if seen.hidden is None:
                raise MethodError(f"hero(novelty={rules.novelty}) compares patches by states that were not recorded")
            why["novelty"] = novelty(seen.hidden, select.ranks(scores, valid))
            scores = scores * why["novelty"] ** rules.novelty
        ranks, rule, weight = select.ranks(scores, valid), newlines or rules.newlines, why["weight"][1:]  # weight (K,)
        if not self.exact:
            whole, local = int(valid.shape[1] * share), int(len(weight) * valid.shape[1] * share)
            granted = torch.cat([room.new_tensor([whole]), allocate.floored(weight, local, room[1:])])
            mask = select.top(ranks, granted, valid)
            return Kept(mask, closed_by(seen.grid, mask, rule), why=why)
        claim = torch.stack([room[0], room[1:].sum()]).float()  # of the thumbnail, of all local tiles
        if self.thumbnail is not None:
            claim = claim.new_tensor([self.thumbnail, 1 - self.thumbnail])
        elif rules.gist:
            claim = claim * claim.new_tensor([rules.gist * budget / seen.positions, 1])

        def patches(n: int) -> Tensor:
            return select.top(ranks, allocate.nested(claim, weight, n, room), valid)

        return Kept(*fit(patches, seen.grid, valid, scores, budget, rule), why=why)

    def weigh(self, seen: Seen, d: Tensor) -> dict[str, Tensor]:
        """Weigh the local tiles by their density d (K,): each term and the weight, (T,) with 0 for the thumbnail."""
        if len(d) and self.alpha < 1 and seen.relevance is None:
            raise MethodError(f"hero(alpha={self.alpha}) weighs tiles by the question: give one, or use alpha=1")
        if len(d) and self.alpha > 0 and seen.cls is None:
            raise MethodError(f"hero(alpha={self.alpha}) weighs tiles by their CLS states, which were not recorded")
        d = d / (d.sum() + 1e-6)  # the authors' guard against a canvas that is all padding
        s = torch.zeros_like(d) if seen.cls is None else (score.saliency(seen.cls) / self.t_cls).softmax(0)
        r = torch.zeros_like(d) if seen.relevance is None else (seen.relevance[1:].float() / self.t_clip).softmax(0)
        weight = self.density * d + (1 - self.density) * (self.alpha * s + (1 - self.alpha) * r)
        terms = {"density": d, "saliency": s, "relevance": r, "weight": weight}
        return {name: torch.cat([term.new_zeros(1), term]) for name, term in terms.items()}
