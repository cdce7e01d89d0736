"""ToDRE, first stage: start at what the CLS token looks at most, then take what differs most from all taken so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from herovlm.errors import MethodError
from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.signals import read
from herovlm.ops import diversity, score, select
from herovlm.ops.fit import fit
from herovlm.ops.greedy import Contests
from herovlm.ops.select import Scope
from herovlm.types import Kept, Needs, Newlines, Seen, Signal


@dataclass(frozen=True, kw_only=True)
class ToDre(Method):
    """Pick the patches least like all earlier picks, from the thumbnail's most attended patch on (arXiv 2505.18757).

    This is the paper's first stage, before the LLM.  The pivot has the thumbnail's highest CLS attention in the last
    block; each next pick has the smallest summed cosine to the picks, among the features that the LLM reads.  On tiled
    models the paper runs one contest over all tiles, which is the default.  How heads are combined is not in the
    paper: here the mean.  Without an overview the pivot has the highest attention of all tiles.
    """

    objective: Literal["max_sum", "k_center"] = "max_sum"  # version 2 of the paper, or the greedy k-center of version 1
    layer: Layer = -1  # block whose CLS attention gives the pivot
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")
    scope: Scope = "image"  # "tile": every tile has its own pivot and the same share of its patches

    name = "todre"
    fixed = True
    paper = "arXiv 2505.18757"
    fidelity = "from the paper"
    formula = "pick[1] = argmax CLS row of the thumbnail, pick[k+1] = argmin_v x̂[v] · Σ_{i≤k} x̂[pick[i]]"

    def needs(self, depth: int) -> Needs:
        """CLS rows of one block."""
        return read(self.signal, resolve((self.layer,), depth))

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Order the patches by the objective and take the first."""
        if seen.features is None:
            raise MethodError("method 'todre' compares features, and none were recorded")
        blocks = resolve((self.layer,), seen.depth)
        if self.signal == "cls":  # a softmax over the patches alone: the CLS key's share is divided out, head by head
            rows = {block: row.float() for block, row in seen.attention.items() if block in blocks}
            attention = score.cls_rows({b: r / r.sum(-1, keepdim=True) for b, r in rows.items()}, blocks)  # (T, N)
        else:
            attention = score.rows(seen, self.signal, blocks)
        pivots = attention.clone()
        if self.scope == "image" and seen.grid.overview:
            pivots[1:] = -1  # only the overview
        pick = diversity.max_sum if self.objective == "max_sum" else diversity.k_center
        contests = Contests.of(seen, self.scope, budget)
        first = contests.take(pivots.masked_fill(~seen.valid, -torch.inf)).argmax(1, keepdim=True)  # (C, 1)
        similar = diversity.cosines(contests.take(seen.features))
        scores = contests.scores(pick(similar, first, contests.count, contests.inside))
        patches = select.by_score(scores, seen, self.scope)
        why = {"score": scores, "attention": attention}
        return Kept(*fit(patches, seen, scores, budget, newlines), why=why)
