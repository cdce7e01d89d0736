"""The sentence of a finding says what its numbers say, by one rule, in all three outcomes."""

from __future__ import annotations

from typing import Any

import pytest

from herovlm.study.layers import Suggestion
from herovlm.study.summary import attention, roles, tiles
from herovlm.study.summary.numbers import Number, nothing
from herovlm.study.summary.verdict import FAILS, HOLDS, OPEN, RULE, spell, word

SUGGESTED = Suggestion((1, 2), (10,), 8, 0.6, 1.0, 1.0)


def number(value: float, half: float = 0.1) -> Number:
    return {"value": value, "low": value - half, "high": value + half, "n": 100}


UP, DOWN, FLAT = number(0.5), number(-0.5), number(0.05)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ([UP], HOLDS),
        ([UP, UP], HOLDS),
        ([UP, FLAT], OPEN),
        ([FLAT], OPEN),
        ([UP, DOWN], FAILS),
        ([FLAT, DOWN], FAILS),
        ([UP, nothing()], OPEN),
        ([], OPEN),
    ],
)
def test_the_rule(claims: list[Number], said: str) -> None:
    assert word(claims) == said


def test_the_rule_is_written_down() -> None:
    for said in (HOLDS, FAILS, OPEN):
        assert said in RULE


OUTCOMES = [(UP, UP, HOLDS), (UP, FLAT, OPEN), (UP, DOWN, FAILS), (DOWN, UP, FAILS)]


def check(verdict: dict[str, str], said: str, *numbers: Number) -> None:
    assert verdict["word"] == said
    assert f": {said}; " in verdict["sentence"]
    assert verdict["sentence"].endswith(".")
    assert not verdict["sentence"].endswith("..")
    for one in numbers:
        assert spell(one, sign=True).replace("+", "") in verdict["sentence"].replace("+", "")


@pytest.mark.parametrize(("first", "second", "said"), OUTCOMES)
def test_tiles(first: Number, second: Number, said: str) -> None:
    verdict = tiles.judged(first, second, "relevance")
    check(verdict, said, first, second)
    assert "against relevance alone" in verdict["sentence"]


@pytest.mark.parametrize(("first", "second", "said"), OUTCOMES)
def test_attention(first: Number, second: Number, said: str) -> None:
    rises = {"norm": first, "foreground": attention.negative(second)}
    verdict = attention.judged({name: {"rise": rise} for name, rise in rises.items()}, SUGGESTED)
    check(verdict, said, first, attention.negative(second))
    assert "block 8" in verdict["sentence"]


def test_attention_without_a_known_foreground_is_judged_by_norms() -> None:
    for norm, said in ((UP, HOLDS), (FLAT, OPEN), (DOWN, FAILS)):
        verdict = attention.judged({"norm": {"rise": norm}}, SUGGESTED)
        check(verdict, said, norm)
        assert "foreground" not in verdict["sentence"]
    assert attention.judged({}, None)["word"] == OPEN


@pytest.mark.parametrize(("first", "second", "said"), OUTCOMES)
def test_roles(first: Number, second: Number, said: str) -> None:
    gains: Any = {
        "0.2": {"best": "late/late", "log": first},
        "0.1": {"best": "early/early", "log": second},
    }
    verdict = roles.judged(gains)
    check(verdict, said, first, second)
    for words in ("at keep=0.2 (against late/late)", "at keep=0.1 (against early/early)"):
        assert words in verdict["sentence"]


def test_nothing_measured_is_undecided() -> None:
    assert roles.judged({})["word"] == OPEN
    assert tiles.judged(nothing(), nothing(), "relevance")["word"] == OPEN
    assert spell(nothing()) == "not measured"


def test_nothing_is_not_minus_nothing() -> None:
    assert spell(number(-0.001, 0.002)) == "0.00 [0.00, 0.00]"
