"""An answer is right when it says the true words; all else that it says is nothing."""

from __future__ import annotations

import pytest

from herovlm.cli.judge import judged, right
from herovlm.viz.records import Answer, Asked


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("472", "472"),
        (" Yes. ", "yes"),
        ("red  star", "red star"),
        ("The sign says “STOP”.", "Stop"),
        ("It costs 4.72.", "4.72"),
        ("no, there is none", "no"),
    ],
)
def test_the_same_words_are_right(answer: str, truth: str) -> None:
    assert right(answer, truth)


@pytest.mark.parametrize(
    ("answer", "truth"),
    [("471", "472"), ("1472", "472"), ("", "no"), ("nothing", "no"), ("star red", "red star"), ("472", "4.72")],
)
def test_other_words_are_wrong(answer: str, truth: str) -> None:
    assert not right(answer, truth)


def test_every_answer_is_judged_and_the_truth_is_kept() -> None:
    answers = tuple(Answer("full", 1.0, text, 1, 1, 0.1, 1, ()) for text in ("seven", "eight"))
    asked = judged(Asked("how many?", answers), "seven", "counting")
    assert [answer.right for answer in asked.answers] == [True, False]
    assert (asked.truth, asked.kind) == ("seven", "counting")
