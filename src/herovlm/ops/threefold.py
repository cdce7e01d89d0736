"""Choose, greedily, what is relevant, unlike the picks, and covers what they do not: three terms on one scale."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from herovlm.ops import coverage
from herovlm.ops.diversity import greedy

Scale = Literal["mean", "minmax"]


def order(similar: Tensor, relevance: Tensor, count: int, *, alpha: float, lam: float, scale: Scale = "mean") -> Tensor:
    """Pick the most relevant, then again and again argmax of relevance + alpha * distance + lam * gain in coverage.

    Distance is 1 - the largest cosine to a pick; the gain of i is the sum over all j of what cosine(i, j) is above that
    of j's nearest pick (a pick is its own nearest, so it adds nothing).  Each term is scaled over the candidates in
    every round.

    Args:
        similar: (n, n) from `diversity.cosines`.
        relevance: (n,) none negative.
        count: Number of picks.
        alpha: Weight of the distance.
        lam: Weight of the gain.
        scale: "mean" divides by the mean over the candidates, "minmax" maps them to [0, 1].

    Returns:
        (n,) int64, the picks in order, then the others as they would come next.
    """
    relevance, covered = relevance.float(), coverage.Covered(similar, start=-1)  # no cosine is lower
    left = torch.ones_like(relevance, dtype=torch.bool)

    def beside(_: int, pick: Tensor) -> Tensor:
        left[pick] = False
        covered.add(pick)
        distance, gain = 1 - covered.best, covered.gain.float()
        terms = (relevance, alpha * scaled(distance, left, scale), lam * scaled(gain, left, scale))
        return scaled(terms[0], left, scale) + terms[1] + terms[2]

    return greedy(relevance, count, beside)


def scaled(values: Tensor, among: Tensor, scale: Scale) -> Tensor:
    """Scale values (n,) over those `among` (n,) bool; equal ones become all 1 ("mean") or all 0 ("minmax")."""
    if scale == "mean":
        mean = values.masked_fill(~among, 0).sum() / among.sum()
        return values / mean.clamp_min(torch.finfo(values.dtype).tiny)
    low = values.masked_fill(~among, torch.inf).amin()
    high = values.masked_fill(~among, -torch.inf).amax()
    return (values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)
