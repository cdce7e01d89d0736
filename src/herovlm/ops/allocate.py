"""Divide a budget among tiles: `exact` and `nested` where weights are signals, `shares` where the host has them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from herovlm.types import Counts

FAINT = 1e-290  # what no weight counts as, for each patch that a tile can take


def exact(weight: Tensor, budget: int, capacity: Tensor) -> Tensor:
    """Divide the whole budget by weight: largest remainder, and what a full tile cannot take goes to the others.

    Of equal remainders the heavier tile is served first, then the first one; what differs by rounding alone is equal.
    Tiles without weight get patches only when all others are full, then by their capacity.  The level to which tiles
    are filled is found in closed form, so that the host waits for nothing.

    Args:
        weight: (T,) float, at most 1e300; what is negative, not finite or less than 1e-285 counts as 0.
        budget: Number to hand out.
        capacity: (T,) int64, the most each tile can take.

    Returns:
        (T,) int64, 0 <= granted <= capacity and granted.sum() == min(budget, capacity.sum()).
    """
    if not capacity.numel():
        return capacity.clone()
    room = capacity.double()
    left, total = room.sum().clamp(max=budget), room.sum()
    heft = torch.fmax(weight.nan_to_num(0, 0, 0), FAINT * room.clamp(min=1))
    full = room / heft  # level at which a tile is full
    later = (full >= full[:, None]).double()  # (T, T): who is not full before the row's tile
    open_ = later @ torch.stack([heft, room], 1)  # (T, 2): weight and room of those
    level = ((left - total + open_[:, 1]) / open_[:, 0]).amax()  # if all before are full; the true one is the largest
    quota = torch.minimum(heft * level, room)
    granted = quota.long()
    remainder = quota.frac().round(decimals=6)
    served = torch.add(granted, remainder, alpha=1e12).argsort(descending=True, stable=True).argsort()
    return granted + (served < left - granted.sum())


def shares(weight: Sequence[float], budget: int, room: Sequence[int]) -> list[int]:
    """Divide as `exact` does, on the host."""
    faint = [FAINT * max(r, 1) for r in room]
    heft = [max(w, f) if math.isfinite(w) else f for w, f in zip(weight, faint, strict=True)]
    rising = sorted(range(len(room)), key=lambda t: room[t] / heft[t])  # who is full first, when the level rises
    open_, left, level = sum(room), min(budget, sum(room)), 0.0
    for place, tile in enumerate(rising):
        level = max(level, (left - sum(room) + open_) / sum(heft[t] for t in rising[place:]))
        open_ -= room[tile]
    quota = [min(h * level, r) for h, r in zip(heft, room, strict=True)]
    granted = [int(q) for q in quota]
    remainder = [round((q - g) * 1e6) for q, g in zip(quota, granted, strict=True)]
    served = sorted(range(len(room)), key=lambda t: (remainder[t], granted[t]), reverse=True)  # stable
    for tile in served[: left - sum(granted)]:
        granted[tile] += 1
    return granted


def nested(parts: Sequence[float], weight: Tensor, budget: int, counts: Counts) -> Tensor:
    """Divide the whole budget between the overview and all local tiles, and the part of these by weight.

    Args:
        parts: Weights of the overview and of all local tiles together; without an overview these get everything.
        weight: (K,) float, of each local tile.
        budget: Number to hand out.
        counts: Of what was seen: no tile gets more than it has valid patches.

    Returns:
        (T,) int64, as `exact`.
    """
    lead = len(counts.room) - len(weight)  # 1: the overview; or 0
    first, others = shares(parts, budget, (sum(counts.room[:lead]), sum(counts.room[lead:])))
    local = exact(weight, others, counts.valid[lead:].sum(1))
    return torch.nn.functional.pad(local, (lead, 0), value=first)


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
