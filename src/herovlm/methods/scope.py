"""SCOPE: patches that the CLS token looks at and that cover what no pick has covered yet."""

from __future__ import annotations

import math
from dataclasses import dataclass

from herovlm.errors import MethodError
from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.fields import within
from herovlm.methods.signals import read
from herovlm.ops import coverage, diversity, score, select
from herovlm.ops.coverage import Combine
from herovlm.ops.fit import fit
from herovlm.ops.greedy import Contests
from herovlm.ops.select import Scope
from herovlm.types import Kept, Needs, Newlines, Seen, Signal


@dataclass(frozen=True, kw_only=True)
class ScopePrune(Method):
    """Pick the patch whose gain in coverage, weighted by CLS attention, is largest, again and again (arXiv 2510.24214).

    Picks cover a patch as far as the nearest of them is like it (cosine of the states before the projector).  The gain
    of a pick is what it adds to that, summed over the tile; its weight is what the CLS token looks at it with, summed
    over heads.  Tiles are independent, and keep the same share of their valid patches.
    """

    alpha: float = 1.0  # exponent of the attention: 0 is coverage alone
    combine: Combine = "product"  # attention times gain, or attention plus gain
    layer: Layer = -2  # block whose CLS rows weigh the patches: the one whose states are compared
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")
    scope: Scope = "tile"  # "image": one contest over all tiles

    name = "scope"
    fixed = True
    paper = "arXiv 2510.24214"
    fidelity = "golden parity"
    formula = (
        "pick[k+1] = argmax_j a[j]^α · Σ_i max(0, s[i,j] − max_{p ∈ picks} s[i,p]), s = cosines, a = Σ_heads CLS row"
    )
    published = (
        "The authors' code keeps the same number of patches in every tile; patches that are wholly padding count and "
        "compete, and no newline is sent."
    )

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        within(self, 0, math.inf, "alpha")

    def needs(self, depth: int) -> Needs:
        """CLS rows of one block, and the states before the projector, which are compared."""
        return read(self.signal, resolve((self.layer,), depth), hidden=True)

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Order the patches by what they add and take the first."""
        if seen.hidden is None:
            raise MethodError("method 'scope' compares patches before the projector, which were not recorded")
        attention = score.rows(seen, self.signal, resolve((self.layer,), seen.depth)) * seen.heads  # (T, N), the sum
        contests = Contests.of(seen, self.scope, budget)
        cover = coverage.among(diversity.cosines(contests.take(seen.hidden)), contests.inside)
        weight = contests.take(attention**self.alpha)
        scores = contests.scores(coverage.order(cover, contests.count, weight, self.combine, contests.inside))
        patches = select.by_score(scores, seen, self.scope)
        why = {"score": scores, "attention": attention}
        return Kept(*fit(patches, seen, scores, budget, newlines), why=why)
