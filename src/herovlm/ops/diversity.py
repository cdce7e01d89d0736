"""Choose patches that differ from each other, greedily: the order of the picks, of which a budget takes the first."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from herovlm.ops import allocate
from herovlm.ops.select import Scope

FLOOR = 1e-5  # below this share of its square, what the picks do not span of a patch is rounding


def cosines(features: Tensor) -> Tensor:
    """Cosine of every two rows, (n, D) -> (n, n) float32; the greedy steps then cost O(n) each."""
    unit = torch.nn.functional.normalize(features.float(), dim=-1)
    return unit @ unit.T


def max_sum(similar: Tensor, first: Tensor, count: int) -> Tensor:
    """Pick `first`, then again and again what is least like all picks together (the smallest sum of cosines).

    Args:
        similar: (n, n) from `cosines`.
        first: () int64, the first pick.
        count: Number of picks.

    Returns:
        (n,) int64, the picks in order, then the others as they would come next.
    """
    total = torch.zeros_like(similar[0])

    def beside(_: int, best: Tensor) -> Tensor:
        return -total.add_(similar[best][0])

    return greedy(_only(first, total), count, beside)


def k_center(similar: Tensor, first: Tensor, count: int) -> Tensor:
    """Pick `first`, then again and again what is farthest from its nearest pick (distance: 1 - cosine).

    Takes and returns what `max_sum` does.
    """
    nearest = torch.full_like(similar[0], torch.inf)

    def beside(_: int, best: Tensor) -> Tensor:
        return torch.minimum(nearest, 1 - similar[best][0], out=nearest)

    return greedy(_only(first, nearest), count, beside)


def loneliest(similar: Tensor) -> Tensor:
    """Find the row that is farthest from its nearest neighbour: (n, n) -> () int64."""
    return similar.clone().fill_diagonal_(-torch.inf).amax(1).argmin()


def dpp(similar: Tensor, quality: Tensor, count: int) -> Tensor:
    """Pick for the largest determinant of diag(q) S diag(q) of the picks: the greedy MAP of a determinantal process.

    A step adds the patch of largest q² times what the picks do not span of it (an incremental Cholesky row, O(n) a
    pick so far).  When the picks span everything, quality alone decides.

    Args:
        similar: (n, n) from `cosines`.
        quality: (n,) positive.
        count: Number of picks.

    Returns:
        (n,) int64, as of `max_sum`.
    """
    worth = quality.float().square()
    rest = similar.diagonal().clone()  # (n,) what the picks do not span
    rows = similar.new_empty(min(count, len(similar)), len(similar))  # Cholesky factor of the picks

    def beside(i: int, best: Tensor) -> Tensor:
        new = similar[best] - rows[:i, best].T @ rows[:i]  # (1, n)
        rows[i] = new[0] / rest[best].clamp_min(FLOOR).sqrt()
        return worth * rest.sub_(rows[i].square()).clamp_min(FLOOR)

    return greedy(worth * rest.clamp_min(FLOOR), count, beside)


def scores(order: Callable[[Tensor, int], Tensor], valid: Tensor, scope: Scope, patches: int) -> Tensor:
    """Turn greedy orders into scores for `select.by_score`: in each contest the first pick has the highest.

    Args:
        order: (cells (n,) int64: flat positions of the contest's valid patches, number of picks) -> (n,) order in them.
        valid: (T, N) bool.
        scope: "tile": a contest in each tile; "image": one over all tiles.
        patches: Number of picks in all, divided among the tiles as `select.by_score` does.

    Returns:
        (T, N) float32; 0 where not valid.
    """
    found = torch.zeros(valid.numel(), device=valid.device)
    room, wide = valid.sum(1), valid.shape[1]
    contests, granted = [valid.flatten().nonzero()[:, 0]], [patches]
    if scope == "tile":
        contests = [t * wide + row.nonzero()[:, 0] for t, row in enumerate(valid)]
        granted = allocate.exact(room, patches, room).tolist()
    for places, count in zip(contests, granted, strict=True):
        if n := len(places):
            found[places[order(places, count)]] = torch.arange(n, 0, -1, device=valid.device).to(found)
    return found.view_as(valid)


def _only(first: Tensor, like: Tensor) -> Tensor:
    """Gains that make `first` the first pick."""
    return torch.zeros_like(like).index_fill_(0, first.view(1), 1)


def greedy(gain: Tensor, count: int, beside: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Pick the largest gain; `beside(i, best)` gives the gains (n,) once `best` (1,) is pick i.  Nothing is fetched."""
    taken, picks = torch.zeros_like(gain, dtype=torch.bool), []
    for i in range(min(count, len(gain))):
        picks.append(best := gain.argmax(0, keepdim=True))
        taken[best] = True
        gain = beside(i, best).masked_fill(taken, -torch.inf)
    others = gain.sort(descending=True, stable=True).indices[: len(gain) - len(picks)]
    return torch.cat([*picks, others])
