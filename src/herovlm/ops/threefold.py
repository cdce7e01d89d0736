"""Choose, greedily, what is relevant, unlike the picks, and covers what they do not: three terms on one scale."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from herovlm.ops import coverage
from herovlm.ops.greedy import operation, picked

Scale = Literal["mean", "minmax"]


def order(
    similar: Tensor,
    relevance: Tensor,
    count: int,
    *,
    alpha: float,
    lam: float,
    scale: Scale = "mean",
    inside: Tensor | None = None,
) -> Tensor:
    """Pick the most relevant, then again and again argmax of relevance + alpha * distance + lam * gain in coverage.

    Distance is 1 - the largest cosine to a pick; the gain of i is the sum over all j of what cosine(i, j) is above that
    of j's nearest pick (a pick is its own nearest, so it adds nothing).  Each term is scaled over the candidates in
    every round.

    Args:
        similar: (C, n, n) from `diversity.cosines`, of C contests.
        relevance: (C, n) none negative.
        count: Number of picks.
        alpha: Weight of the distance.
        lam: Weight of the gain.
        scale: "mean" divides by the mean over the candidates, "minmax" maps them to [0, 1].
        inside: (C, n) bool, who may be picked; all when None.

    Returns:
        (C, n) int64, the picks in order, then the others as they would come next.
    """
    who = torch.ones_like(relevance, dtype=torch.bool) if inside is None else inside
    return _threefold(coverage.among(similar, inside), relevance, who, count, alpha, lam, scale)


@operation(
    "(Tensor similar, Tensor relevance, Tensor inside, int count, float alpha, float lam, str scale) -> Tensor",
    apart=True,
)
def _threefold(
    similar: Tensor, relevance: Tensor, inside: Tensor, count: int, alpha: float, lam: float, scale: Scale
) -> Tensor:
    """Keep the three terms in one tensor, so that one operation scales them all."""
    covered, out = coverage.Covered(similar, start=-1), ~inside  # no cosine is lower
    terms = relevance.float().repeat(3, 1, 1)  # (3, C, n)
    left = inside.sum(1, keepdim=True).float()  # (C, 1)

    def beside(_: int, pick: Tensor) -> Tensor:
        out.scatter_(1, pick, True)
        covered.add(pick)
        terms[1] = 1 - covered.best
        terms[2] = covered.gain
        each = scaled(terms, out, left.sub_(1), scale)
        return (each[0] + alpha * each[1] + lam * each[2]).masked_fill_(out, -torch.inf)

    return picked(terms[0].masked_fill(out, -torch.inf), count, beside)


def scaled(values: Tensor, out: Tensor, left: Tensor, scale: Scale) -> Tensor:
    """Scale values (..., C, n) over the `left` (C, 1) that are not `out` (C, n) bool, each contest on its own.

    Equal ones become all 1 ("mean") or all 0 ("minmax").
    """
    tiny = torch.finfo(values.dtype).tiny
    if scale == "mean":
        return values / (values.masked_fill(out, 0).sum(-1, keepdim=True) / left).clamp_min(tiny)
    low = values.masked_fill(out, torch.inf).amin(-1, keepdim=True)
    high = values.masked_fill(out, -torch.inf).amax(-1, keepdim=True)
    return (values - low) / (high - low).clamp_min(tiny)
