"""Reduce clusters to a number of positions: each keeps its best and merges the rest into one."""

from __future__ import annotations

import torch
from torch import Tensor


def groups(norms: Tensor, clusters: Tensor, count: int) -> Tensor:
    """Group positions so that `count` are left: (V,) int64, -1 stays as it is, those of one number are merged.

    Args:
        norms: (V,), small is important.
        clusters: (V,) int64, any numbers.
        count: What shall be left, kept ones and merged ones.
    """
    _, cluster, sizes = torch.unique(clusters, return_inverse=True, return_counts=True)
    sums = norms.new_zeros(len(sizes)).index_add(0, cluster, norms)
    if len(sizes) > count:  # too many even if each became one: all but the best become a single position
        place = torch.full_like(sizes, count - 1)
        place[sums.argsort(stable=True)[: count - 1]] = torch.arange(count - 1, device=place.device)
        return place[cluster]
    order = norms.argsort(stable=True)
    order = order[cluster[order].argsort(stable=True)]  # cluster by cluster, the shortest first
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[cluster[order]]
    return torch.where(rank < quotas(sizes, sums, count)[cluster], -1, cluster)


def quotas(sizes: Tensor, sums: Tensor, count: int) -> Tensor:
    """Grant the clusters kept positions in proportion to their size less one, the merged one: (clusters,) int64."""
    spare = count - len(sizes)
    share = (sizes - 1).float() / max(1, int(sizes.sum()) - len(sizes))
    quota = torch.minimum((share * spare).round().long(), sizes - 1)
    left = spare - int(quota.sum())  # what rounding lost goes to the best clusters, what it won comes from the worst
    for best_first in sums.argsort(stable=True, descending=left < 0).tolist():
        if left and 0 <= int(quota[best_first]) + (left > 0) - (left < 0) <= int(sizes[best_first]) - 1:
            quota[best_first] += (left > 0) - (left < 0)
            left -= (left > 0) - (left < 0)
    return quota
