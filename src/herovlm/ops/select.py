"""Take the best patches; ties go to the first position, so every machine takes the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from herovlm.ops import allocate
from herovlm.types import Seen

Scope = Literal["tile", "image"]  # every tile gets the same share of its valid patches, or all tiles are one contest


def order(scores: Tensor, valid: Tensor) -> Tensor:
    """List the patches of each tile: the best valid one first, patches that are not valid last.

    Args:
        scores: (T, N); NaN counts as the worst.
        valid: (T, N) bool.

    Returns:
        (T, N) int64.
    """
    worst = torch.finfo(torch.float32).min
    known = scores.float().nan_to_num(nan=worst, posinf=torch.inf, neginf=worst)
    return known.masked_fill(~valid, -torch.inf).sort(dim=-1, descending=True, stable=True).indices


def ranks(scores: Tensor, valid: Tensor) -> Tensor:
    """Rank patches within each tile: 0 is the best valid patch, patches that are not valid come last.

    Takes and returns what `order` does, whose inverse it is.
    """
    best = order(scores, valid)
    places = torch.arange(best.shape[-1], device=best.device).expand_as(best)
    return torch.scatter(places, -1, best, places)


def top(ranks: Tensor, granted: Tensor, valid: Tensor) -> Tensor:
    """Keep the best `granted` valid patches of each tile.

    Args:
        ranks: (T, N) int64 from `ranks`.
        granted: (T,) int64.
        valid: (T, N) bool.

    Returns:
        (T, N) bool.
    """
    return (ranks < granted[:, None]) & valid


def first(order: Tensor, granted: Sequence[int]) -> Tensor:
    """Keep the first `granted` patches of each tile, which the host knows: (T, N) int64 from `order` -> (T, N) bool."""
    tiles, patches = order.shape
    flat = order + patches * torch.arange(tiles, device=order.device)[:, None]
    chosen = torch.cat([one[:count] for one, count in zip(flat, granted, strict=True)])
    nothing = torch.zeros(tiles * patches, dtype=torch.bool, device=order.device)
    return torch.scatter(nothing, 0, chosen, True).view(tiles, patches)


def by_score(scores: Tensor, seen: Seen, scope: Scope) -> Callable[[int], Tensor]:
    """Make a choice of the best P valid patches, P -> (T, N) bool, for `fit`.

    Args:
        scores: (T, N).
        seen: What the tower saw: which patches are valid, and how many.
        scope: "tile": the same share of its valid patches in every tile; "image": one ranking over all tiles.
    """
    if scope == "image":
        best = order(scores.view(1, -1), seen.valid.view(1, -1))
        return lambda patches: first(best, [patches]).view_as(seen.valid)
    best, room = order(scores, seen.valid), seen.counts.room
    return lambda patches: first(best, allocate.shares(room, patches, room))
