"""Means, differences and rank correlations, with 95 % bootstrap intervals over pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from herovlm.eval import metrics, stats
from herovlm.extras import require

Floats = Any  # numpy array of float64
Number = dict[str, Any]  # value, low, high (None where there is nothing to say), n
ByPicture = Mapping[str, Sequence[float]]
DIGITS = 4


def collect(pairs: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
    """Collect numbers by picture: (picture, number) pairs."""
    found: dict[str, list[float]] = {}
    for picture, value in pairs:
        found.setdefault(picture, []).append(value)
    return found


def mean(values: ByPicture) -> Number:
    """Mean of numbers, each weighing the same; nan is left out, and n says of how many it is the mean."""
    rows = [[v for v in some if v == v] for some in values.values()]
    counts = np.array([[sum(row), len(row)] for row in rows if row], dtype=np.float64)
    return number(counts, metrics.mean, sum(map(len, rows)))


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rank correlation of a few numbers; nan where one side is constant.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    if len(set(x)) < 2 or len(set(y)) < 2:
        return float("nan")
    return float(require("scipy.stats", extra="eval").spearmanr(x, y).statistic)


def pooled(pairs: Mapping[str, Sequence[tuple[float, float]]]) -> Number:
    """Spearman's rank correlation over all pictures together; ranks stay as they are when pictures are drawn again.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    flat = np.array([pair for some in pairs.values() for pair in some], dtype=np.float64).reshape(-1, 2)
    if not len(flat) or (flat == flat[:1]).all(0).any():
        return nothing()
    ranks = require("scipy.stats", extra="eval").rankdata(flat, axis=0)
    x, y = (ranks - ranks.mean(0)).T
    moments = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], 1)
    ends = np.cumsum([len(some) for some in pairs.values()])[:-1]
    return number(np.array([part.sum(0) for part in np.split(moments, ends)]), _pearson, len(flat))


def number(counts: Floats, total: stats.Total, n: int) -> Number:
    """A total of counts (P, C) with its interval."""
    if not len(counts):
        return nothing()
    low, high = stats.interval(counts, total)
    found = {"value": float(total(counts.sum(0))), "low": low, "high": high}
    return {**{name: round(value, DIGITS) for name, value in found.items()}, "n": n}


def nothing() -> Number:
    """A number that could not be measured."""
    return {"value": None, "low": None, "high": None, "n": 0}


def _pearson(sums: Floats) -> Floats:
    n, x, y, xy, xx, yy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (xy - x * y / n) / np.sqrt((xx - x * x / n) * (yy - y * y / n))
