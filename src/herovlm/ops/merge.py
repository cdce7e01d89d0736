"""Average every patch into a kept one: into the nearest of its tile, or into the most alike."""

from __future__ import annotations

import torch
from torch import Tensor


def average(features: Tensor, valid: Tensor, mask: Tensor, side: int) -> Tensor:
    """Average every valid patch into the nearest kept patch of its tile, ties to the first in raster order.

    Args:
        features: (T, N, D).
        valid: (T, N) bool.
        mask: (T, N) bool, kept patches.
        side: Patches a side of a tile.

    Returns:
        (mask.sum(), D) in the order of the mask's True cells, in the dtype of the features.
    """
    places = torch.arange(side * side, device=mask.device)
    yx = torch.stack([places // side, places % side], -1)  # (N, 2)
    merged = []
    for tile, ok, kept in zip(features.float(), valid, mask, strict=True):
        if not kept.any():
            continue
        far = (yx[ok, None] - yx[None, kept]).square().sum(-1)  # (n_valid, n_kept), whole numbers
        nearest = far.argmin(1)
        ones = torch.nn.functional.one_hot(nearest, int(kept.sum())).to(tile.dtype)  # (n_valid, n_kept)
        merged.append(ones.T @ tile[ok] / ones.sum(0)[:, None])
    return torch.cat(merged).to(features.dtype)


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
