"""Choose patches that cover the others, greedily: the facility-location objective, sum over rows of max over picks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from herovlm.ops.diversity import greedy

Worth = Callable[[Tensor], Tensor]  # (n,) float64 gains in coverage -> (n,) what a pick is worth


class Covered:
    """How well the picks cover each row, and what every column would add to that.

    Gains are small differences of large sums, in float64; only rows that a pick covers better are summed again, so that
    a pick costs O(n) times their number.

    Attributes:
        best: (R,) how well the picks cover each row.
        gain: (n,) float64, the sum over the rows of what each column is above the best.
    """

    def __init__(self, cover: Tensor, start: float = 0.0) -> None:
        """Begin without picks, every row covered to `start`; cover (R, n) says how well column j covers row i."""
        self._cover, self.best = cover, cover.new_full((len(cover),), start)
        self.gain = self._above(slice(None))
        self._rounding = 1e-12 * self.gain.max()  # less than this is no gain

    def add(self, pick: Tensor) -> None:
        """Add a column, (1,) int64, to the picks."""
        new = self._cover[:, pick][:, 0]
        # to ask a device which rows change takes longer there than to sum them all
        rows = slice(None) if new.is_cuda else (new > self.best).nonzero()[:, 0]
        self.gain.sub_(self._above(rows))
        torch.maximum(self.best, new, out=self.best)
        self.gain.add_(self._above(rows))
        self.gain.mul_(self.gain > self._rounding)

    def _above(self, rows: Tensor | slice) -> Tensor:
        """Sum over some rows what each column is above the best: (n,) float64."""
        return (self._cover[rows] - self.best[rows, None]).clamp_min_(0).sum(0, dtype=torch.float64)


def order(cover: Tensor, count: int, worth: Worth | None = None) -> Tensor:
    """Pick again and again the column whose gain in coverage is worth most; what nobody covers counts as covered to 0.

    Args:
        cover: (R, n) how well column j covers row i.
        count: Number of picks.
        worth: What a gain is worth, such as gain times attention; the gain itself when None.

    Returns:
        (n,) int64, the picks in order, then the others as they would come next.
    """
    covered = Covered(cover)
    value = worth or (lambda gain: gain)

    def beside(_: int, pick: Tensor) -> Tensor:
        covered.add(pick)
        return value(covered.gain)

    return greedy(value(covered.gain), count, beside)
