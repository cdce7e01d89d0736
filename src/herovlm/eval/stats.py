"""Intervals and tests over pictures, not questions: those about one picture are not independent.

Everything is drawn with fixed seeds: the same records give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

Floats = Any  # numpy array of float64
Total = Callable[[Floats], Floats]  # sums of counts (..., C) -> (...)
RESAMPLES, SHUFFLES, STEP = 2_000, 9_999, 250


def interval(counts: Floats, total: Total) -> tuple[float, float]:
    """95 % bootstrap interval of a total over pictures, by percentiles.

    Args:
        counts: (P, C) sums over the questions of each picture.
        total: what to make of their sum.
    """
    low, high = np.nanquantile(resampled(counts, total), [0.025, 0.975])
    return float(low), float(high)


def resampled(counts: Floats, total: Total) -> Floats:
    """Totals of bootstrap samples, (R,); the same pictures are drawn whenever there are as many."""
    return total(_drawn(len(counts)) @ counts)


@lru_cache(maxsize=4)
def _drawn(pictures: int) -> Floats:
    """How often each picture is in each bootstrap sample, (R, P)."""
    picks = np.random.default_rng(0).integers(0, pictures, (RESAMPLES, pictures))
    times = np.zeros((RESAMPLES, pictures), dtype=np.float64)
    for row, picked in zip(times, picks, strict=True):
        row[:] = np.bincount(picked, minlength=pictures)
    return times


def p_value(ours: Floats, theirs: Floats, total: Total) -> float:
    """Two-sided p of a paired permutation test: what if the two answered each picture in each other's name?

    Args:
        ours: (P, C) counts of one configuration.
        theirs: (P, C) counts of the other, of the same pictures.
        total: what to make of their sums.
    """
    both = ours.sum(0) + theirs.sum(0)
    seen = abs(total(ours.sum(0)) - total(theirs.sum(0)))
    more = 0
    for swapped in _swaps(len(ours)):
        ours_then = ours.sum(0) + swapped @ (theirs - ours)  # (S, C)
        differences = np.abs(total(ours_then) - total(both - ours_then))
        more += int((differences >= seen - 1e-9).sum())
    return (more + 1) / (SHUFFLES + 1)


@lru_cache(maxsize=2)
def _swaps(pictures: int) -> list[Floats]:
    """Which pictures are swapped in each shuffle, (S, P) at a time."""
    rng = np.random.default_rng(1)
    sizes = [min(STEP, SHUFFLES - done) for done in range(0, SHUFFLES, STEP)]
    return [rng.integers(0, 2, (size, pictures), dtype=np.int8).astype(np.float32) for size in sizes]


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust p values of a family of tests by Holm's step-down method."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = worst
    return adjusted
