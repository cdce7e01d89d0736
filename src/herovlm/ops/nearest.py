"""Group points around dense ones: density from the nearest neighbours, every point to its nearest centre."""

from __future__ import annotations

import torch
from torch import Tensor


def knn_peaks(points: Tensor, centres: int) -> tuple[Tensor, Tensor]:
    """Find centres that are dense and far from denser points, and the centre of each point.

    Density is exp(−mean squared distance) to as many nearest points as there are centres, the point itself among them;
    distances are divided by √C.  Of points equally dense the earlier counts as denser.

    Args:
        points: (m, C).
        centres: 1 .. m.

    Returns:
        (centres,) int64 points that are centres, and (m,) int64 which of them each point belongs to.
    """
    points = points.float()
    apart = torch.cdist(points, points).fill_diagonal_(0) / points.shape[1] ** 0.5  # (m, m)
    density = (-apart.topk(centres, largest=False).values.square().mean(1)).exp()
    place = torch.arange(len(points), device=points.device)
    denser = (density > density[:, None]) | ((density == density[:, None]) & (place < place[:, None]))
    reach = apart.masked_fill(~denser, float(apart.max())).min(1).values
    centre = (reach * density).sort(descending=True, stable=True).indices[:centres]
    owner = apart[:, centre].argmin(1)
    owner[centre] = torch.arange(centres, device=points.device)
    return centre, owner
