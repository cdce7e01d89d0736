"""Average every patch into a kept one: into the nearest of its tile, or into the most alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def average(features: Tensor, valid: Tensor, mask: Tensor, side: int, granted: Sequence[int]) -> Tensor:
    """Average every valid patch into the nearest kept patch of its tile, ties to the first in raster order.

    Args:
        features: (T, N, D).
        valid: (T, N) bool.
        mask: (T, N) bool, kept patches.
        side: Patches a side of a tile.
        granted: mask.sum(1), as the host knows it.

    Returns:
        (mask.sum(), D) in the order of the mask's True cells, in the dtype of the features.
    """
    places = torch.arange(side * side, device=mask.device)
    yx = torch.stack([places // side, places % side], -1)  # (N, 2)
    far = (yx[:, None] - yx).square().sum(-1)  # (N, N), whole numbers
    merged = []
    for tile, ok, at in zip(features.float(), valid, kept(mask, granted), strict=True):
        if not len(at):
            continue
        nearest = far[:, at].argmin(1)  # (N,)
        mine = ((nearest == torch.arange(len(at), device=at.device)[:, None]) & ok).to(tile.dtype)  # (n_kept, N)
        merged.append(mine @ tile / mine.sum(1, keepdim=True))
    return torch.cat(merged).to(features.dtype)


def kept(mask: Tensor, granted: Sequence[int]) -> list[Tensor]:
    """List the kept patches of each tile, ascending: (T, N) bool and how many they are -> (n_kept,) int64 a tile."""
    order = mask.byte().sort(dim=1, descending=True, stable=True).indices
    return [one[:count] for one, count in zip(order, granted, strict=True)]


def by_likeness(features: Tensor, valid: Tensor, mask: Tensor) -> Tensor:
    """Average every valid patch into the kept patch of its tile that is nearest by cosine.

    Takes and returns what `average` does, without the side.
    """
    merged = []
    for tile, owner, kept in zip(features.float(), owners(features, valid, mask, mask), mask, strict=True):
        mine = (owner == kept.nonzero()).to(tile.dtype)  # (n_kept, N)
        merged.append(mine @ tile / mine.sum(1, keepdim=True))
    return torch.cat(merged).to(features.dtype)


def owners(metric: Tensor, valid: Tensor, mask: Tensor, centres: Tensor) -> Tensor:
    """Find the patch that each patch ends in: itself when kept, else the centre of its tile nearest by cosine.

    Args:
        metric: (T, N, D) what patches are compared by.
        valid: (T, N) bool.
        mask: (T, N) bool, kept patches.
        centres: (T, N) bool, the kept patches that others may join.

    Returns:
        (T, N) int64; -1 = in none.
    """
    owner = torch.where(mask, torch.arange(mask.shape[1], device=mask.device), -1)
    unit = torch.nn.functional.normalize(metric.float(), dim=-1)
    for m, own, rest, at in zip(unit, owner, valid & ~mask, centres, strict=True):
        if at.any():
            own[rest] = at.nonzero()[:, 0][(m[rest] @ m[at].T).argmax(1)]
    return owner
