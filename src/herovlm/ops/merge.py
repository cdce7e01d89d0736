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


def by_likeness(features: Tensor, valid: Tensor, mask: Tensor, granted: Sequence[int]) -> Tensor:
    """Average every valid patch into the kept patch of its tile that is nearest by cosine.

    Takes and returns what `average` does, without the side.
    """
    merged = []
    owner = owners(features, valid, mask, mask, granted)
    for tile, own, at in zip(features.float(), owner, kept(mask, granted), strict=True):
        mine = (own == at[:, None]).to(tile.dtype)  # (n_kept, N)
        merged.append(mine @ tile / mine.sum(1, keepdim=True))
    return torch.cat(merged).to(features.dtype)


def owners(metric: Tensor, valid: Tensor, mask: Tensor, centres: Tensor, counts: Sequence[int]) -> Tensor:
    """Find the patch that each patch ends in: itself when kept, else the centre of its tile nearest by cosine.

    Args:
        metric: (T, N, D) what patches are compared by.
        valid: (T, N) bool.
        mask: (T, N) bool, kept patches.
        centres: (T, N) bool, the kept patches that others may join.
        counts: centres.sum(1), as the host knows it.

    Returns:
        (T, N) int64; -1 = in none.
    """
    unit, found = torch.nn.functional.normalize(metric.float(), dim=-1), []
    for m, at in zip(unit, kept(centres, counts), strict=True):
        found.append(at[(m @ m[at].T).argmax(1)] if len(at) else torch.full_like(m[:, 0], -1, dtype=torch.int64))
    places = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, places, torch.where(valid, torch.stack(found), -1))
