"""Remove near-duplicates in rounds: of every other patch those most alike to any of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from herovlm.ops.greedy import operation


@operation("(Tensor alike, int[] starts, int[] ends, int step) -> Tensor")
def duplicates(alike: Tensor, starts: Sequence[int], ends: Sequence[int], step: int) -> Tensor:
    """Order patches by how long they stay when near-duplicates are removed; any shorter removal is a prefix of it.

    Tiles with as many patches to remove are one loop.

    Args:
        alike: (T, N, N) cosine of the patches.
        starts: T numbers; patches before this one never go.
        ends: T numbers; patches from this one on do not count.
        step: Patches removed a round.

    Returns:
        (T, N) int64 places: those that never go, then the others, the last to go first, then those that do not count.
    """
    tiles, n, _ = alike.shape
    order = torch.arange(n, device=alike.device).repeat(tiles, 1)
    size = [end - start for start, end in zip(starts, ends, strict=True)]
    for many in {*size} - {0}:
        same = [t for t in range(tiles) if size[t] == many]
        left = torch.stack([order[t, starts[t] : ends[t]] for t in same])  # (S, many)
        gone = _removed(torch.stack([alike[t] for t in same]), left, step).flip(1)
        for t, row in zip(same, gone, strict=True):
            order[t, starts[t] : ends[t]] = row
    return order


def _removed(alike: Tensor, left: Tensor, step: int) -> Tensor:
    """Order places `left` (S, L) as they go, the first to go first."""
    gone, n = [], alike.shape[1]
    while left.shape[1] > 1:
        first, second = left[:, ::2], left[:, 1::2]
        pairs = (first[:, :, None] * n + second[:, None]).flatten(1)
        nearest = alike.flatten(1).gather(1, pairs).view(len(left), -1, second.shape[1]).amax(2)
        first = first.gather(1, nearest.argsort(dim=1, descending=True, stable=True))
        gone.append(first[:, :step])
        left = torch.cat([first[:, step:], second], 1)
    return torch.cat([*gone, left], 1)
