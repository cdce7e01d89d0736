"""Group patches: a dense patch far from denser ones is a centre, and every other follows its nearest denser one."""

from __future__ import annotations

import torch
from torch import Tensor


def density_peaks(
    points: Tensor, yx: Tensor, centres: int, *, cutoff: float, near: float, ties: bool = False
) -> Tensor:
    """Label points by density peaks.

    Density is the sum of exp(-(distance / cutoff)²) over all points, itself included.  Centres have the largest
    density times distance to the next denser point.

    Args:
        points: (n, C), n >= 1.
        yx: (n, 2) places; a point follows only one within `near` of it, while there is one.
        centres: Number of centres.
        cutoff: Distance at which density fades.
        near: Largest distance of places.
        ties: Points of equal density may follow each other, so that some reach no centre, and a centre-less point
            with nobody to follow follows point 0 (the authors of ViTCoP).  Else the earlier of two counts as denser,
            and who has nobody near follows the nearest denser point anywhere: everyone reaches a centre.

    Returns:
        (n,) int64: 0 for the points of the first centre and so on, -1 for points that reach none.
    """
    points = points.float() - points.float().mean(0)  # distances stay, and lose less to rounding
    place = torch.arange(len(points), device=points.device)
    apart = torch.cdist(points, points).masked_fill(place == place[:, None], 0)  # (n, n)
    density = (-(apart / cutoff).square()).exp().sum(1)
    second = place != place[:, None] if ties else place < place[:, None]
    denser = (density > density[:, None]) | ((density == density[:, None]) & second)  # [i, j]: j is denser than i
    beside = ((yx[:, None] - yx).square().sum(-1) + 1e-8).sqrt() <= near
    distance, leader = apart.masked_fill(~(denser & beside), torch.inf).min(1)
    if not ties:
        anywhere = apart.masked_fill(~denser, torch.inf).argmin(1)
        leader = torch.where(distance.isinf(), anywhere, leader)
    order = density.argsort(descending=True, stable=True)  # of equal peaks the densest is first
    order = order[(distance * density)[order].argsort(descending=True, stable=True)]
    centre = order[:centres]
    leader = leader.scatter(0, centre, centre)
    for _ in range(len(points).bit_length()):  # each round doubles the way to the centre
        leader = leader.gather(0, leader)
    labels = torch.scatter(torch.full_like(place, -1), 0, centre, place[: len(centre)])
    return labels.gather(0, leader)
