"""DivPrune: keep patches that are as far from each other as can be."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from herovlm.errors import MethodError
from herovlm.methods.base import Method
from herovlm.ops import diversity, select
from herovlm.ops.fit import fit
from herovlm.ops.select import Scope
from herovlm.types import Kept, Needs, Newlines, Seen


@dataclass(frozen=True, kw_only=True)
class DivPrune(Method):
    """Pick the patch farthest from its nearest pick, again and again: max-min diversity (arXiv 2503.02175).

    Distance is 1 - cosine of the features that the LLM reads.  The first pick is the patch farthest from its nearest
    neighbour.  The paper takes all visual tokens before the LLM as one set, also those of several tiles; so does the
    default.  It looks at no question and at no attention.
    """

    scope: Scope = "image"  # "tile": every tile on its own, with the same share of its patches

    name = "divprune"
    paper = "arXiv 2503.02175"
    fidelity = "from the paper"
    formula = "pick[k+1] = argmax_v min_{i≤k} (1 − x̂[v] · x̂[pick[i]])"
    published = "The authors' code is not under an open-source licence and was not read."

    def needs(self, depth: int) -> Needs:
        """Nothing but the features."""
        return Needs()

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Order the patches by max-min distance and take the first."""
        if seen.features is None:
            raise MethodError("method 'divprune' compares features, and none were recorded")
        features = seen.features.flatten(0, 1)

        def order(cells: Tensor, count: int) -> Tensor:
            similar = diversity.cosines(features[cells])
            return diversity.k_center(similar, diversity.loneliest(similar), count)

        scores = diversity.scores(order, seen.valid, self.scope, budget)
        patches = select.by_score(scores, seen.valid, self.scope)
        return Kept(*fit(patches, seen.grid, seen.valid, scores, budget, newlines), why={"score": scores})
