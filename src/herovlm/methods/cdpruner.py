"""CDPruner: keep patches that differ from each other and bear on the question, as a determinantal point process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from herovlm.errors import MethodError
from herovlm.methods.base import Method
from herovlm.ops import diversity, select
from herovlm.ops.fit import fit
from herovlm.ops.greedy import Contests
from herovlm.ops.select import Scope
from herovlm.types import Kept, Needs, Newlines, Seen


@dataclass(frozen=True, kw_only=True)
class CdPruner(Method):
    """Pick for the largest determinant of a kernel of feature cosines weighted by relevance (arXiv 2506.10967).

    A patch's relevance is its cosine with the question in CLIP space, negated as in the authors' code (patch states of
    CLIP tend to point away from the text that names them), and scaled to [0, 1] over the image.  On tiled models the
    authors keep the same number in every tile, which is the default.

    On a model without CLIP's text tower write `by="words"`, which is this library's: the mean cosine with the tokens of
    the question as the language model reads them, in the space that it reads patches in.
    """

    by: Literal["clip", "words"] = "clip"  # where patch and question are compared
    negate: bool = True  # CLIP's cosine; False takes it as it is
    scope: Scope = "tile"  # "image": one contest over all tiles

    name = "cdpruner"
    fixed = True
    paper = "arXiv 2506.10967"
    fidelity = "golden parity"
    formula = "kept = greedy argmax det(diag(r) S diag(r)), r = minmax(−cos(patch, question)), S = x̂ x̂ᵀ"
    published = "It scales relevance over all tiles of all images of a batch, so that an image depends on the others."

    def needs(self, depth: int) -> Needs:
        """Cosine of every patch and the question, or the question's words."""
        return Needs(affinity=True) if self.by == "clip" else Needs(words=("all",))

    def without(self, signals: frozenset[str]) -> tuple[Method, ...]:
        """Words stand in for a text tower."""
        return (replace(self, by="words"),) if "affinity" in signals and self.by == "clip" else ()

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Order the patches by the greedy determinant and take the first."""
        if seen.features is None:
            raise MethodError("method 'cdpruner' compares features, and none were recorded")
        affinity = seen.affinity if self.by == "clip" else _by_words(seen.features, seen.words.get("all"))
        if affinity is None:
            raise MethodError("method 'cdpruner' weighs patches by the question: give one")
        relevance = self.relevance(affinity.float(), seen.valid)
        contests = Contests.of(seen, self.scope, budget)
        similar, quality = diversity.cosines(contests.take(seen.features)), contests.take(relevance)
        scores = contests.scores(diversity.dpp(similar, quality, contests.count, contests.inside))
        patches = select.by_score(scores, seen, self.scope)
        why = {"score": scores, "relevance": relevance}
        return Kept(*fit(patches, seen, scores, budget, newlines), why=why)

    def relevance(self, affinity: Tensor, valid: Tensor) -> Tensor:
        """Scale to [0, 1] over the valid patches (T, N); 1e-6 keeps the least of them above 0, as in the code."""
        affinity = -affinity if self.negate and self.by == "clip" else affinity
        low, high = (affinity.masked_fill(~valid, end) for end in (torch.inf, -torch.inf))
        low, high = low.amin(), high.amax()
        scaled = torch.where(high > low, (affinity - low + 1e-6) / (high - low), 1)
        return scaled.masked_fill(~valid, 0)


def _by_words(features: Tensor, words: Tensor | None) -> Tensor | None:
    """Compare patches (T, N, D) with words (m, D): the mean cosine, (T, N)."""
    if words is None:
        return None
    patches, said = normalize(features.float(), dim=-1), normalize(words.float(), dim=-1)
    return (patches @ said.mT).mean(-1)
