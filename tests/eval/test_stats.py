"""Intervals and tests: small cases by hand, and what is true of any sample."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np
import pytest

from herovlm.errors import MissingExtraError
from herovlm.eval import stats
from herovlm.eval.metrics import f1, mean


def counts(scores: Iterable[float]) -> np.ndarray:
    """One question a picture."""
    return np.array([(score, 1.0) for score in scores])


def test_an_interval_holds_the_mean_and_narrows_with_pictures() -> None:
    rng = np.random.default_rng(3)
    widths = []
    for pictures in (25, 100, 400):
        scores = counts(list(rng.random(pictures) < 0.7))
        low, high = stats.interval(scores, mean)
        assert low < mean(scores.sum(0)) < high
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1] > 1.5 * 1.5 * widths[2], "about half for four times as many"
    assert widths[2] == pytest.approx(2 * 1.96 * (0.21 / 400) ** 0.5, rel=0.2), "as the normal law has it"
    assert stats.interval(counts([1.0] * 5), mean) == (1.0, 1.0)


def test_pictures_are_drawn_not_questions() -> None:
    one_by_one = counts([0.0, 1.0] * 30)
    in_tens = np.array([(0.0, 10.0), (10.0, 10.0)] * 3)  # the same questions, ten a picture, all right or all wrong
    (a, b), (c, d) = (stats.interval(x, mean) for x in (one_by_one, in_tens))
    assert d - c > 2 * (b - a)


def test_an_interval_is_that_of_numpy_by_hand() -> None:
    """Ratios of sums over pictures that are drawn whole: 2,000 samples, the seed 0."""
    rng = np.random.default_rng(8)
    many = np.stack([rng.random(30), rng.integers(1, 6, 30)], 1)
    drawn = [many[picks].sum(0) for picks in np.random.default_rng(0).integers(0, 30, (2_000, 30))]
    by_hand = np.quantile([right / asked for right, asked in drawn], [0.025, 0.975])
    assert stats.interval(many, mean) == pytest.approx(tuple(by_hand), abs=1e-12)


def test_the_same_pictures_are_drawn_for_both() -> None:
    ours, theirs = counts([0.3, 1.0, 0.6, 0.8]), counts([0.2, 0.9, 0.5, 0.7])
    ends = stats.interval_between(ours, theirs, lambda ours, theirs: mean(ours) - mean(theirs))
    assert ends == pytest.approx((0.1, 0.1)), "a paired difference without spread"
    assert stats.interval(ours, mean) == stats.interval(ours.copy(), mean)


def test_one_picture_has_no_spread() -> None:
    assert stats.interval(counts([0.4]), mean) == (0.4, 0.4)


def test_samples_that_have_no_total_are_left_out() -> None:
    rare = np.array([[1.0, 2.0]] + [[0.0, 0.0]] * 9)  # in a third of the samples nothing was asked
    assert stats.interval(rare, mean) == (0.5, 0.5)


def test_differences_that_are_equal_but_for_rounding_count_as_equal() -> None:
    """In thirds of a point, which binary numbers only come near, as in whole points."""
    ours, theirs = np.random.default_rng(4).integers(0, 4, (2, 300))  # a difference of 2 points in about 900
    thirds, points = (stats.p_value(counts(ours / by), counts(theirs / by), mean) for by in (3, 1))
    assert thirds == points


def test_a_missing_scipy_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    for tried in (lambda: stats.interval(counts([1, 0]), mean), lambda: stats.p_value(counts([1]), counts([0]), mean)):
        with pytest.raises(MissingExtraError, match="extra 'eval': pip install"):
            tried()


@pytest.mark.parametrize(
    ("ours", "theirs", "p"),
    [
        ([1, 1, 1], [0, 0, 0], 2 / 8),  # only all or none swapped are as far apart
        ([1, 1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 0], 2 / 256),
        ([1, 1, 0], [0, 0, 1], 1.0),  # +1 +1 -1: every choice of signs gives 1 or 3
        ([1, 0, 1], [1, 0, 1], 1.0),
    ],
)
def test_p_of_a_case_worked_out_by_hand(ours: list[float], theirs: list[float], p: float) -> None:
    error = 4 * (p * (1 - p) / stats.SHUFFLES) ** 0.5 + 1 / stats.SHUFFLES
    assert stats.p_value(counts(ours), counts(theirs), mean) == pytest.approx(p, abs=error)
    assert stats.p_value(counts(theirs), counts(ours), mean) == pytest.approx(p, abs=error)


def test_p_is_small_for_a_difference_and_spread_evenly_for_none() -> None:
    rng = np.random.default_rng(5)
    base = rng.random(200) < 0.5
    better = base | (rng.random(200) < 0.3)
    assert stats.p_value(counts(list(better)), counts(list(base)), mean) < 0.001
    ps = [
        stats.p_value(counts(list(rng.random(60))), counts(list(rng.random(60))), mean) for _ in range(120)
    ]  # the two are alike
    assert 0.01 <= np.mean(np.array(ps) < 0.1) <= 0.2


def test_a_total_that_is_no_mean() -> None:
    hits, misses = np.array([[1.0, 0, 0]] * 10), np.array([[0, 0, 1.0]] * 10)
    assert stats.interval(np.concatenate([hits, misses]), f1)[1] < 1
    assert stats.p_value(hits, misses, f1) < 0.01
    assert stats.p_value(hits, hits, f1) == 1


def test_holm_steps_down() -> None:
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.5, 0.9]) == [1.0, 1.0]
    assert stats.holm([]) == []
