"""Choose patches that differ from each other, greedily: the order of the picks, of which a budget takes the first."""

from __future__ import annotations

import torch
from torch import Tensor

from herovlm.ops.greedy import operation, picked, row

FLOOR = 1e-5  # below this share of its square, what the picks do not span of a patch is rounding
SLAB = 144  # rows that are compared with all behind them at once


def cosines(features: Tensor) -> Tensor:
    """Cosine of every two rows, (..., n, D) -> (..., n, n) float32; the greedy steps then cost O(n) each."""
    unit = torch.nn.functional.normalize(features.float(), dim=-1)
    if unit.device.type != "cpu":
        return unit @ unit.mT
    n = unit.shape[-2]
    similar = unit.new_empty(*unit.shape[:-1], n)
    for start in range(0, n, SLAB):  # every pair once: half the work
        slab = unit[..., start : start + SLAB, :] @ unit[..., start:, :].mT
        similar[..., start : start + SLAB, start:] = slab
        similar[..., start + SLAB :, start : start + SLAB] = slab[..., SLAB:].mT
    return similar


def max_sum(similar: Tensor, first: Tensor, count: int, inside: Tensor | None = None) -> Tensor:
    """Pick `first`, then again and again what is least like all picks together (the smallest sum of cosines).

    Args:
        similar: (C, n, n) from `cosines`, of C contests.
        first: (C, 1) int64, the first picks.
        count: Number of picks.
        inside: (C, n) bool, who may be picked; all when None.

    Returns:
        (C, n) int64, the picks in order, then the others as they would come next.
    """
    return _unlike(similar, first, _all(similar, inside), count, False)


def k_center(similar: Tensor, first: Tensor, count: int, inside: Tensor | None = None) -> Tensor:
    """Pick `first`, then again and again what is farthest from its nearest pick (distance: 1 - cosine).

    Takes and returns what `max_sum` does.
    """
    return _unlike(similar, first, _all(similar, inside), count, True)


def loneliest(similar: Tensor, inside: Tensor | None = None) -> Tensor:
    """Find the row that is farthest from its nearest neighbour: (C, n, n) -> (C, 1) int64."""
    who = _all(similar, inside)
    others = similar + torch.zeros_like(similar[:, 0]).masked_fill(~who, -torch.inf)[:, None]  # (C, n, n)
    others.diagonal(0, 1, 2).fill_(-torch.inf)
    return others.amax(2).masked_fill(~who, torch.inf).argmin(1, keepdim=True)


def dpp(similar: Tensor, quality: Tensor, count: int, inside: Tensor | None = None) -> Tensor:
    """Pick for the largest determinant of diag(q) S diag(q) of the picks: the greedy MAP of a determinantal process.

    A step adds the patch of largest q² times what the picks do not span of it (an incremental Cholesky row, O(n) a
    pick so far).  When the picks span everything, quality alone decides.

    Args:
        similar: (C, n, n) from `cosines`, of C contests.
        quality: (C, n) positive.
        count: Number of picks.
        inside: (C, n) bool, who may be picked; all when None.

    Returns:
        (C, n) int64, as of `max_sum`.
    """
    return _dpp(similar, quality, _all(similar, inside), count)


def _all(similar: Tensor, inside: Tensor | None) -> Tensor:
    """Return who may be picked, (C, n) bool."""
    return torch.ones_like(similar[:, 0], dtype=torch.bool) if inside is None else inside


@operation("(Tensor similar, Tensor first, Tensor inside, int count, bool nearest) -> Tensor")
def _unlike(similar: Tensor, first: Tensor, inside: Tensor, count: int, nearest: bool) -> Tensor:
    """Let the nearest pick, or all picks together, say how unlike them a patch is: three launches a pick."""
    apart = 1 - similar if nearest else -similar  # (C, n, n)
    apart.diagonal(0, 1, 2).fill_(-torch.inf)  # a pick is out of the contest
    unlike = torch.full_like(apart[:, 0], torch.inf if nearest else 0).masked_fill_(~inside, -torch.inf)
    join = torch.minimum if nearest else torch.add
    start = torch.zeros_like(unlike).scatter_(1, first, 1)
    return picked(start, count, lambda _, best: join(unlike, row(apart, best), out=unlike))


@operation("(Tensor similar, Tensor quality, Tensor inside, int count) -> Tensor")
def _dpp(similar: Tensor, quality: Tensor, inside: Tensor, count: int) -> Tensor:
    """Build the Cholesky factor row by row."""
    contests, n, _ = similar.shape
    worth = quality.float().square().masked_fill_(~inside, -torch.inf)
    rest = similar.diagonal(0, 1, 2).clamp_min(FLOOR)  # (C, n) what the picks do not span
    rows = similar.new_empty(contests, min(count, n), n)  # Cholesky factors of the picks

    def beside(i: int, best: Tensor) -> Tensor:
        spanned = rows[:, :i].gather(2, best[:, None].expand(-1, i, -1))  # (C, i, 1)
        new = row(similar, best) - torch.bmm(spanned.mT, rows[:, :i])[:, 0]
        torch.div(new, rest.gather(1, best).sqrt_(), out=rows[:, i])
        rest.sub_(rows[:, i].square()).clamp_min_(FLOOR)
        return worth.scatter_(1, best, -torch.inf) * rest

    return picked(worth * rest, count, beside)
