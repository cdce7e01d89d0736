"""Divide a budget among tiles."""

from __future__ import annotations

import torch
from torch import Tensor

NOTHING, FAINT = 1e-300, 1e-303  # less than this share of the largest weight is none; what none counts as


def exact(weight: Tensor, budget: int | Tensor, capacity: Tensor) -> Tensor:
    """Divide the whole budget by weight: largest remainder, and what a full tile cannot take goes to the others.

    Of equal remainders the heavier tile is served first, then the first one.  Tiles without weight get patches only
    when all others are full, then by their capacity.  The level to which tiles are filled is found in closed form, so
    that the host waits for nothing.

    Args:
        weight: (T,) float; what is negative, not finite or less than 1e-300 of the largest counts as 0.
        budget: Number to hand out.
        capacity: (T,) int64, the most each tile can take.

    Returns:
        (T,) int64, 0 <= granted <= capacity and granted.sum() == min(budget, capacity.sum()).
    """
    if not capacity.numel():
        return capacity.clone()
    room = capacity.double()
    left = room.sum().clamp(max=budget)
    heft = weight.to(room).nan_to_num(0, 0, 0).clamp(min=0)
    heft = heft / heft.max()
    heft = torch.where(heft > NOTHING, heft, FAINT * room.clamp(min=1))  # also where all are 0, and these NaN
    order = (room / heft).argsort(stable=True)  # who is full first, when the level rises
    held, open_ = room[order], heft[order].flip(0).cumsum(0).flip(0)  # open_: weight of those not full yet
    level = (left - held.cumsum(0) + held) / open_  # if all before are full; the true one is the largest
    quota = torch.minimum(heft * level.max(), room)
    granted = quota.floor()
    remainder = ((quota - granted) * 1e6).round()  # what differs by rounding alone is equal
    heavy = heft.argsort(descending=True, stable=True)
    served = heavy[remainder[heavy].argsort(descending=True, stable=True)].argsort()
    return (granted + (served < left - granted.sum())).long()


def nested(parts: Tensor, weight: Tensor, budget: int | Tensor, capacity: Tensor) -> Tensor:
    """Divide the whole budget between the thumbnail and all local tiles, and the part of these by weight.

    Args:
        parts: (2,) float, weights of the thumbnail and of all local tiles together.
        weight: (K,) float, of each local tile.
        budget: Number to hand out.
        capacity: (1 + K,) int64.

    Returns:
        (1 + K,) int64, as `exact`.
    """
    first = exact(parts, budget, torch.stack([capacity[0], capacity[1:].sum()]))[:1]
    return torch.cat([first, exact(weight, budget - first[0], capacity[1:])])


def floored(weight: Tensor, budget: int | Tensor, capacity: Tensor) -> Tensor:
    """Give each tile `min(floor(weight * budget), capacity)`, as the authors of HERO do; what is cut off is lost.

    Args:
        weight: (T,) float, summing to about 1.
        budget: Number to hand out.
        capacity: (T,) int64.

    Returns:
        (T,) int64, whose sum is at most the budget.
    """
    return torch.minimum((weight * budget).floor().to(torch.int64), capacity)
