"""Choose patches that cover the others, greedily: the facility-location objective, sum over rows of max over picks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from herovlm.ops.diversity import greedy

Worth = Callable[[Tensor], Tensor]  # (n,) gains in coverage -> (n,) what a pick is worth


def gains(cover: Tensor, best: Tensor) -> Tensor:
    """Sum over the rows of what each column would add to the best so far: (R, n), (R,) -> (n,)."""
    return (cover - best[:, None]).clamp_min_(0).sum(0)


def order(cover: Tensor, count: int, worth: Worth | None = None) -> Tensor:
    """Pick again and again the column whose gain in coverage is worth most; what nobody covers counts as covered to 0.

    Args:
        cover: (R, n) how well column j covers row i; a step costs O(R n).
        count: Number of picks.
        worth: What a gain is worth, such as gain times attention; the gain itself when None.

    Returns:
        (n,) int64, the picks in order, then the others as they would come next.
    """
    best = cover.new_zeros(len(cover))
    value = worth or (lambda gain: gain)

    def beside(_: int, pick: Tensor) -> Tensor:
        torch.maximum(best, cover[:, pick][:, 0], out=best)
        return value(gains(cover, best))

    return greedy(value(gains(cover, best)), count, beside)
