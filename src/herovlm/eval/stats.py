"""Intervals and tests over pictures, not questions: those about one picture are not independent.

scipy draws, with fixed seeds: the same records give the same numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from herovlm.extras import require

Floats = Any  # numpy array of float64
Total = Callable[[Floats], Floats]  # sums of counts (..., C) -> (...)
RESAMPLES, SHUFFLES, STEP = 2_000, 9_999, 250  # STEP: how many are in memory at once
DIGITS = 9  # of a difference; what is left behind them are roundings


def interval(counts: Floats, total: Total) -> tuple[float, float]:
    """95 % bootstrap interval of a total over pictures, by percentiles; samples without a total (nan) are left out.

    Args:
        counts: (P, C) sums over the questions of each picture.
        total: what to make of their sum.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    stats = require("scipy.stats", extra="eval")
    if len(counts) == 1:  # scipy asks for two
        counts = np.repeat(counts, 2, 0)

    def statistic(*columns: Floats, axis: int) -> Floats:
        return total(np.stack([column.sum(axis) for column in columns], -1))

    how = {"paired": True, "method": "percentile", "n_resamples": RESAMPLES, "batch": STEP, "rng": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # of an interval of its own, which knows no nan
        drawn = stats.bootstrap(counts.T, statistic, **how).bootstrap_distribution  # (RESAMPLES,)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def interval_between(ours: Floats, theirs: Floats, change: Callable[[Floats, Floats], Floats]) -> tuple[float, float]:
    """95 % bootstrap interval of what is made of two sums of counts, of the same pictures, (P, C) and (P, D)."""
    wide = ours.shape[1]
    return interval(np.concatenate([ours, theirs], 1), lambda sums: change(sums[..., :wide], sums[..., wide:]))


def p_value(ours: Floats, theirs: Floats, total: Total) -> float:
    """Two-sided p of a paired permutation test: what if the two answered each picture in each other's name?

    That is scipy's Monte Carlo test of who is swapped; its `permutation_test` sorts for every swap and takes ten times
    as long.

    Args:
        ours: (P, C) counts of one configuration.
        theirs: (P, C) counts of the other, of the same pictures.
        total: what to make of their sums.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    rng, both = np.random.default_rng(1), ours.sum(0) + theirs.sum(0)

    def draw(size: tuple[int, int]) -> Floats:
        return rng.integers(0, 2, size, dtype=np.int8).astype(np.float32)

    def apart(swapped: Floats, axis: int) -> Floats:
        ours_then = ours.sum(0) + swapped @ (theirs - ours)  # (..., P) -> (..., C)
        return np.abs(total(ours_then) - total(both - ours_then)).round(DIGITS)

    how = {"alternative": "greater", "vectorized": True, "n_resamples": SHUFFLES, "batch": STEP}
    nobody = np.zeros(len(ours))
    return float(require("scipy.stats", extra="eval").monte_carlo_test(nobody, draw, apart, **how).pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust p values of a family of tests by Holm's step-down method (scipy knows false discovery rates only)."""
    order = np.argsort(ps, kind="stable")
    adjusted = np.empty(len(ps))
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, np.sort(ps) * np.arange(len(ps), 0, -1)))
    return [float(p) for p in adjusted]
