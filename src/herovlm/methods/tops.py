"""TOPS, first stage: what the CLS token looks at, what differs from the picks, and what covers the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from herovlm.errors import MethodError
from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.fields import within
from herovlm.methods.signals import read
from herovlm.ops import diversity, score, select, threefold
from herovlm.ops.fit import fit
from herovlm.ops.greedy import Contests
from herovlm.ops.select import Scope
from herovlm.ops.threefold import Scale
from herovlm.types import Kept, Needs, Newlines, Seen, Signal


@dataclass(frozen=True, kw_only=True)
class Tops(Method):
    """Pick by relevance, diversity and gain in coverage together, each over its mean, step by step (arXiv 2606.27161).

    This is the paper's stage before the LLM; 'tops + tops_llm' is both, where it sends twice as many as are meant for a
    layer.  Relevance is CLS attention, cosines are those of the features that the LLM reads.  All tiles are one
    contest, as the paper speaks of none.  Which block's attention it takes the paper does not say: here that of the
    block whose states the LLM reads in the LLaVA models.
    """

    alpha: float = 0.5  # weight of diversity, 1 - the cosine to the nearest pick
    lam: float = 0.5  # weight of the gain in coverage
    scale: Scale = "mean"  # "minmax": each term to [0, 1], as in the paper's text; its algorithms divide by the mean
    layer: Layer = -2  # block whose CLS rows are the relevance: the one before the last
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")
    scope: Scope = "image"  # "tile": every tile on its own, with the same share of its patches

    name = "tops"
    fixed = True
    paper = "arXiv 2606.27161"
    fidelity = "from the paper"
    formula = "pick = argmax_i r̃[i] + α·d̃[i] + λ·c̃[i], d = 1 − b, c[i] = Σ_j max(0, x̂[i]·x̂[j] − b[j]), b: nearest pick"
    published = "No code of the authors was found."

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 0, math.inf, "alpha", "lam")

    def needs(self, depth: int) -> Needs:
        """CLS rows of one block."""
        return read(self.signal, resolve((self.layer,), depth))

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Order the patches by the rule and take the first."""
        if seen.features is None:
            raise MethodError("method 'tops' compares features, and none were recorded")
        attention = score.rows(seen, self.signal, resolve((self.layer,), seen.depth))  # (T, N)
        contests = Contests.of(seen, self.scope, budget)
        similar, relevance = diversity.cosines(contests.take(seen.features)), contests.take(attention)
        how: Any = {"alpha": self.alpha, "lam": self.lam, "scale": self.scale, "inside": contests.inside}
        scores = contests.scores(threefold.order(similar, relevance, contests.count, **how))
        patches = select.by_score(scores, seen, self.scope)
        why = {"score": scores, "attention": attention}
        return Kept(*fit(patches, seen, scores, budget, newlines), why=why)
