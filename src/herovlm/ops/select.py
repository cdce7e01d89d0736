"""Take the best patches; ties go to the first position, so every machine takes the same ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from herovlm.ops import allocate

Scope = Literal["tile", "image"]  # every tile gets the same share of its valid patches, or all tiles are one contest


def ranks(scores: Tensor, valid: Tensor) -> Tensor:
    """Rank patches within each tile: 0 is the best valid patch, patches that are not valid come last.

    Args:
        scores: (T, N); NaN counts as the worst.
        valid: (T, N) bool.

    Returns:
        (T, N) int64.
    """
    worst = scores.float().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    order = worst.sort(dim=-1, descending=True, stable=True).indices
    order = order.gather(-1, valid.gather(-1, order).sort(dim=-1, descending=True, stable=True).indices)
    places = torch.arange(scores.shape[-1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places)


def top(ranks: Tensor, granted: Tensor, valid: Tensor) -> Tensor:
    """Keep the best `granted` valid patches of each tile.

    Args:
        ranks: (T, N) int64 from `ranks`.
        granted: (T,) int64.
        valid: (T, N) bool.

    Returns:
        (T, N) bool.
    """
    return (ranks < granted.to(ranks.device)[:, None]) & valid


def by_score(scores: Tensor, valid: Tensor, scope: Scope) -> Callable[[int], Tensor]:
    """Make a choice of the best P valid patches, P -> (T, N) bool, for `fit`.

    Args:
        scores: (T, N).
        valid: (T, N) bool.
        scope: "tile": the same share of its valid patches in every tile; "image": one ranking over all tiles.
    """
    if scope == "image":
        order = ranks(scores.view(1, -1), valid.view(1, -1)).view_as(valid)
        return lambda patches: (order < patches) & valid
    order, room = ranks(scores, valid), valid.sum(1)
    return lambda patches: top(order, allocate.exact(room, patches, room), valid)
