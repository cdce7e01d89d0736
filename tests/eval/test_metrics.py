"""Metrics on cases worked out by hand, and what is true of each whatever the answer."""

from __future__ import annotations

import sys
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herovlm.errors import MissingExtraError, UsageError
from herovlm.eval import metrics
from herovlm.eval.metrics import METRICS

TEN = ["red"] * 3 + ["blue"] * 2 + ["green"] + ["dark red"] * 4


@pytest.mark.parametrize(
    ("name", "answer", "wanted", "score"),
    [
        ("exact_match", "472", ["472"], 1),
        ("exact_match", " Red  Star ", ["blue", "red star"], 1),
        ("exact_match", "472.", ["472"], 0),
        ("exact_match", "", ["472"], 0),
        ("anls", "hello", ["hello"], 1),
        ("anls", "Hallo", ["hello"], 0.8),  # 1 of 5
        ("anls", "abxye", ["abcde"], 0.6),  # 2 of 5
        ("anls", "abxy", ["abcd"], 0),  # 2 of 4 is the threshold
        ("anls", "abc", ["abcdef", "abcd"], 0.75),  # 3 of 6 is too far, 1 of 4 is not
        ("anls", "", ["a"], 0),
        ("relaxed_accuracy", "105", ["100"], 1),
        ("relaxed_accuracy", "95", ["100"], 1),
        ("relaxed_accuracy", "105.1", ["100"], 0),
        ("relaxed_accuracy", "-96", ["-100"], 1),
        ("relaxed_accuracy", "96", ["-100"], 0),
        ("relaxed_accuracy", "12.5%", ["0.12"], 1),
        ("relaxed_accuracy", "0.0", ["0"], 1),
        ("relaxed_accuracy", "0.01", ["0"], 0),
        ("relaxed_accuracy", "Yes", ["yes"], 1),
        ("relaxed_accuracy", "yess", ["yes"], 0),
        ("relaxed_accuracy", "100 apples", ["100"], 0),
        ("vqa_accuracy", "green", TEN, 0.3),  # nobody else for 1, one third for 9
        ("vqa_accuracy", "blue", TEN, 0.6),  # 1/3 for 2, 2/3 for 8
        ("vqa_accuracy", "red", TEN, 0.9),  # 2/3 for 3, 1 for 7
        ("vqa_accuracy", "dark red", TEN, 1),
        ("vqa_accuracy", "pink", TEN, 0),
        ("vqa_accuracy", "The Dogs.", ["dogs"], 1),
        ("vqa_accuracy", "two", ["2"], 1),
        ("vqa_accuracy", "1,000", ["1000"], 1),
        ("vqa_accuracy", "3.5", ["35"], 0),
        ("vqa_accuracy", "dont walk", ["Don't walk!"], 1),
        ("pope_f1", "Yes, there is.", ["yes"], 1),
        ("pope_f1", "No.", ["yes"], 0),
        ("pope_f1", "There is not a dog. Yes.", ["no"], 1),
        ("pope_f1", "I know it: yes", ["yes"], 1),  # "no" is a word of its own
    ],
)
def test_a_case_worked_out_by_hand(name: str, answer: str, wanted: list[str], score: float) -> None:
    assert METRICS[name].score(answer, wanted) == pytest.approx(score)


def total(name: str, cases: list[tuple[str, list[str]]]) -> float:
    metric = METRICS[name]
    counts = [metric.counts(metric.score(said, wanted), said, wanted) for said, wanted in cases]
    return float(metric.total(np.sum(counts, 0)))


def test_the_total_is_the_mean_of_the_scores_or_f1_of_yes() -> None:
    assert total("anls", [("hello", ["hello"]), ("hallo", ["hello"]), ("x", ["hello"])]) == pytest.approx(0.6)
    yes_no = [("yes", "yes"), ("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no"), ("no", "no")]
    cases = [(said, [true]) for said, true in yes_no]
    assert total("pope_f1", cases) == pytest.approx(2 / 3)  # precision 2/3, recall 2/3
    assert total("pope_f1", [("no", ["yes"])]) == 0
    assert total("pope_f1", [("no", ["no"])]) == 0, "nothing was found, though nothing was there"


@given(st.sampled_from(sorted(METRICS)), st.text(max_size=12), st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_a_score_is_a_share_whoever_says_what(name: str, answer: str, wanted: list[str]) -> None:
    assert 0 <= METRICS[name].score(answer, wanted) <= 1


@given(st.sampled_from(sorted(METRICS)), st.sampled_from(["yes", "no"]))
def test_the_wanted_answer_is_right(name: str, answer: str) -> None:
    assert METRICS[name].score(answer, [answer]) == 1


@given(st.text("abß é😀", max_size=8), st.text("abß é😀", max_size=8))
def test_anls_is_that_of_the_edit_distance_as_it_is_defined(a: str, b: str) -> None:
    one, other = (" ".join(text.casefold().split()) for text in (a, b))

    @cache
    def distance(i: int, j: int) -> int:
        """Fewest letters to put in, take out or change, from the first i letters to the first j."""
        if not i or not j:
            return i + j
        change = distance(i - 1, j - 1) + (one[i - 1] != other[j - 1])
        return min(change, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    far = distance(len(one), len(other)) / max(len(one), len(other), 1)
    assert metrics.anls(a, [b]) == (1 - far if far < 0.5 else 0)


def test_a_missing_rapidfuzz_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance.Levenshtein", None)
    with pytest.raises(MissingExtraError, match="extra 'eval': pip install"):
        metrics.anls("a", ["b"])


def test_every_metric_says_where_it_is_from() -> None:
    for name in ("anls", "relaxed_accuracy", "vqa_accuracy", "pope_f1"):
        assert "arXiv" in str(METRICS[name].score.__doc__)


def test_a_metric_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match="did you mean 'anls'"):
        metrics.find("anl")
