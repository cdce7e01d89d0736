"""Choose patches that cover the others, greedily: the facility-location objective, sum over rows of max over picks."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from herovlm.ops.greedy import operation, picked

Combine = Literal["product", "sum"]


CHUNK = 64  # rows that are summed at once on a CPU: what they need stays in its cache


class Covered:
    """How well the picks cover each row, and what every column would add to that, in C contests.

    Gains are small differences of large sums, in float64.  On a device all rows are summed again for each pick: to ask
    it which rows change takes longer.  On a CPU only those are that a pick covers better, of one contest.

    Attributes:
        best: (C, R) how well the picks cover each row.
        gain: (C, n) float64, the sum over the rows of what each column is above the best.
    """

    def __init__(self, cover: Tensor, start: float = 0.0) -> None:
        """Begin without picks, every row covered to `start`; cover (C, R, n) says how well column j covers row i."""
        self._cover, self.best = cover, cover.new_full(cover.shape[:2], start)
        self._above = cover - self.best[..., None]
        self.gain = self._above.clamp_min_(0).sum(1, dtype=torch.float64)
        self._rounding = 1e-12 * self.gain.amax(1, keepdim=True)  # less than this is no gain
        parts = (cover[0], self.best[0], self.gain[0], self._rounding[0])
        self._host = [part.numpy() for part in parts] if cover.is_cpu and len(cover) == 1 else None

    def add(self, pick: Tensor) -> None:
        """Add a column, (C, 1) int64, to the picks of each contest."""
        if self._host:
            _raise(int(pick), *self._host)
            return
        new = self._cover.gather(2, pick[:, None].expand(-1, self._cover.shape[1], -1))[..., 0]
        torch.maximum(self.best, new, out=self.best)
        torch.sub(self._cover, self.best[..., None], out=self._above).clamp_min_(0)
        torch.sum(self._above, 1, dtype=torch.float64, out=self.gain)
        self.gain.mul_(self.gain > self._rounding)


def _raise(pick: int, cover: Any, best: Any, gain: Any, rounding: Any) -> None:
    """Let a column cover the rows, best (R,), and take what that changes from and to the gains (n,), in place."""
    new = cover[:, pick].copy()
    rows = np.flatnonzero(new > best)
    levels = np.stack([best[rows], new[rows]])[..., None]  # (2, changed, 1)
    for start in range(0, len(rows), CHUNK):
        end = start + CHUNK
        above = cover.take(rows[start:end], 0) - levels[:, start:end]  # (2, k, n)
        before, after = np.maximum(above, 0, out=above).sum(1, dtype=np.float64)
        gain += after - before
    best[rows] = new[rows]
    gain *= gain > rounding


def among(similar: Tensor, inside: Tensor | None) -> Tensor:
    """Let who is not inside neither cover nor be covered: (C, n, n)."""
    if inside is None:
        return similar
    return similar.masked_fill(~(inside[:, :, None] & inside[:, None]), -torch.inf)


def order(
    cover: Tensor,
    count: int,
    weight: Tensor | None = None,
    combine: Combine = "product",
    inside: Tensor | None = None,
) -> Tensor:
    """Pick again and again the column whose gain in coverage is worth most; what nobody covers counts as covered to 0.

    Args:
        cover: (C, R, n) how well column j covers row i, in C contests.
        count: Number of picks.
        weight: (C, n) what a gain is weighed with; the gain itself counts when None.
        combine: "product": weight times gain; "sum": weight plus gain.
        inside: (C, n) bool, who may be picked; all when None.

    Returns:
        (C, n) int64, the picks in order, then the others as they would come next.
    """
    weight = torch.ones_like(cover[:, 0]) if weight is None else weight.float()
    base = torch.zeros_like(weight) if combine == "product" else weight
    base = base if inside is None else base.masked_fill(~inside, -torch.inf)
    return _cover(cover, base, weight if combine == "product" else torch.ones_like(weight), count)


@operation("(Tensor cover, Tensor base, Tensor weight, int count) -> Tensor", apart=True)
def _cover(cover: Tensor, base: Tensor, weight: Tensor, count: int) -> Tensor:
    """Pick the largest base + weight * gain."""
    covered, weight = Covered(cover), weight.double()
    base = base.to(torch.float64, copy=True)

    def beside(_: int, pick: Tensor) -> Tensor:
        covered.add(pick)
        return torch.addcmul(base.scatter_(1, pick, -torch.inf), weight, covered.gain)

    return picked(torch.addcmul(base, weight, covered.gain), count, beside)
