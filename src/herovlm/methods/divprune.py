"""DivPrune: keep patches that are as far from each other as can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from herovlm.errors import MethodError
from herovlm.methods.base import Method
from herovlm.ops import diversity, select
from herovlm.ops.fit import fit
from herovlm.ops.greedy import Contests
from herovlm.ops.select import Scope
from herovlm.types import Kept, Needs, Newlines, Seen


@dataclass(frozen=True, kw_only=True)
class DivPrune(Method):
    """Pick the patch farthest from its nearest pick, again and again: max-min diversity (arXiv 2503.02175).

    Distance is 1 - cosine of the features that the LLM reads.  The first pick is the patch farthest from its nearest
    neighbour.  The paper takes all visual tokens before the LLM as one set, also those of several tiles; so does the
    default.  It looks at no question and at no attention.

    `variant="official"` is the authors' code index for index: the newlines of a tiled picture are candidates as its
    patches are.  They all read the same, so that one at most is picked while anything else differs from the picks, but
    that one changes the picks behind it.  A rule for newlines takes them out of the contest.
    """

    variant: Literal["herovlm", "official"] = "herovlm"  # patches alone compete, or newlines beside them
    scope: Scope = "image"  # "tile": every tile on its own, with the same share of its patches

    name = "divprune"
    paper = "arXiv 2503.02175"
    fidelity = "golden parity"
    formula = "pick[k+1] = argmax_v min_{i≤k} (1 − x̂[v] · x̂[pick[i]])"
    published = (
        "The authors' code does not take picks out of the contest: where only repetitions of the picks are left it "
        "sends the same tokens again, where herovlm goes on by position.  A feature that is all zeros makes its "
        "distances NaN; here it is unlike everything."
    )

    def __post_init__(self) -> None:
        """Check that the fields go together."""
        super().__post_init__()
        if self.variant == "official" and self.scope != "image":
            raise MethodError(f"{self}: newlines belong to no tile; with variant='official' the scope is 'image'")

    @property
    def traceable(self) -> bool:
        """Not for the authors' variant: newlines compete there."""
        return self.variant == "herovlm"

    def needs(self, depth: int) -> Needs:
        """Nothing but the features."""
        return Needs()

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Order the patches by max-min distance and take the first."""
        if seen.features is None:
            raise MethodError("method 'divprune' compares features, and none were recorded")
        if self.variant == "official" and newlines is None and seen.grid.sent.any():
            return with_newlines(seen, seen.features.flatten(0, 1), budget)
        contests = Contests.of(seen, self.scope, budget)
        scores = contests.scores(spread(contests.take(seen.features), contests.count, contests.inside))
        patches = select.by_score(scores, seen, self.scope)
        return Kept(*fit(patches, seen, scores, budget, newlines), why={"score": scores})


def spread(features: Tensor, count: int, inside: Tensor | None = None) -> Tensor:
    """Order features (C, n, D) by max-min distance, the loneliest first: (C, n) int64, of which `count` are picks."""
    similar = diversity.cosines(features)
    return diversity.k_center(similar, diversity.loneliest(similar, inside), count, inside)


def with_newlines(seen: Seen, features: Tensor, budget: int) -> Kept:
    """Let patches (T * N, D) and newlines compete for the budget."""
    if seen.newline is None:
        raise MethodError("divprune(variant='official') compares newlines too, and what they read was not recorded")
    slots = seen.slots
    read = torch.where((slots >= 0)[:, None], features[slots.clamp(min=0)], seen.newline.to(features))
    order = slots[spread(read[None], budget)[0]]
    patch = order >= 0
    scores = torch.zeros(seen.valid.shape, device=slots.device)
    scores.view(-1)[order[patch]] = torch.arange(len(order), 0, -1, device=slots.device).to(scores)[patch]
    picks = order[:budget]
    rows = torch.zeros_like(seen.grid.sent).index_fill(0, -1 - picks[picks < 0], True)
    mask = torch.zeros_like(seen.valid)
    mask.view(-1)[picks[picks >= 0]] = True
    return Kept(mask, rows, why={"score": scores})
