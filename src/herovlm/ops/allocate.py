"""Divide a budget among tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def exact(weight: Tensor, budget: int, capacity: Tensor) -> Tensor:
    """Divide the whole budget by weight: largest remainder, and what a full tile cannot take goes to the others.

    Tiles of equal claim are served in order of position.  Tiles without weight get patches only when all others are
    full, then by their capacity.

    Args:
        weight: (T,) float; what is negative or not finite counts as 0.
        budget: Number to hand out.
        capacity: (T,) int64, the most each tile can take.

    Returns:
        (T,) int64, 0 <= granted <= capacity and granted.sum() == min(budget, capacity.sum()).
    """
    room = [int(c) for c in capacity.tolist()]
    claim = [w if math.isfinite(w) and w > 0 else 0.0 for w in weight.tolist()]
    granted = [0] * len(room)
    left = max(0, min(budget, sum(room)))
    for by in (claim, [float(c) for c in room]):  # by weight first, by capacity for what is left
        tiles = [t for t in range(len(room)) if by[t] > 0 and granted[t] < room[t]]
        spent = _divide([by[t] for t in tiles], left, [room[t] - granted[t] for t in tiles])
        for t, n in zip(tiles, spent, strict=True):
            granted[t] += n
        left -= sum(spent)
    return torch.tensor(granted, dtype=torch.int64, device=capacity.device)


def nested(claim: Tensor, weight: Tensor, budget: int, capacity: Tensor) -> Tensor:
    """Divide the whole budget between the thumbnail and all local tiles, and the part of these by weight.

    Args:
        claim: (2,) float, of the thumbnail and of all local tiles together.
        weight: (K,) float, of each local tile.
        budget: Number to hand out.
        capacity: (1 + K,) int64.

    Returns:
        (1 + K,) int64, as `exact`.
    """
    first = exact(claim, budget, torch.stack([capacity[0], capacity[1:].sum()]))[:1]
    return torch.cat([first, exact(weight, budget - int(first), capacity[1:])])


def floored(weight: Tensor, budget: int, capacity: Tensor) -> Tensor:
    """Give each tile `min(floor(weight * budget), capacity)`, as the authors of HERO do; what is cut off is lost.

    Args:
        weight: (T,) float, summing to about 1.
        budget: Number to hand out.
        capacity: (T,) int64.

    Returns:
        (T,) int64, whose sum is at most the budget.
    """
    return torch.minimum((weight * budget).floor().to(torch.int64), capacity)


def _divide(weight: Sequence[float], budget: int, room: Sequence[int]) -> list[int]:
    """Largest remainder with caps; weights and room are positive."""
    granted = [0] * len(room)
    open_, left = list(range(len(room))), budget
    while open_ and left:
        top = max(weight[t] for t in open_)
        total = math.fsum(weight[t] / top for t in open_)
        quota = {t: left * (weight[t] / top / total) for t in open_}
        full = [t for t in open_ if quota[t] >= room[t]]
        if not full:
            break
        for t in full:  # a full tile is closed, and its overflow divided among the open ones
            granted[t] = min(room[t], left)
            left -= granted[t]
        open_ = [t for t in open_ if t not in full]
    if not open_ or not left:
        return granted
    for t in open_:
        granted[t] = math.floor(quota[t])
    rest = left - sum(granted[t] for t in open_)
    for t in sorted(open_, key=lambda t: (granted[t] - quota[t], t))[:rest]:
        granted[t] += 1
    return granted
