"""TOPS inside the LLM: relevance is what fitting words attend to, among the states at the cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import herovlm
from herovlm.errors import MethodError, UnsupportedError
from herovlm.methods.inside.tops import TopsLlm
from herovlm.types import SeenInside

N = 12  # positions of the image, between one token of text and three


def look(granted: int) -> SeenInside:
    rating = torch.arange(1.0, N + 1)
    text = torch.zeros(3, N + 4)
    text[0, 1 : N + 1] = 20 * (N - rating)  # does not fit the picture
    text[1, 1 : N + 1] = rating  # fits
    text[2, 1 : N + 1] = torch.arange(N) % 2
    words = torch.tensor([[1.0, 0.0], [0.0, 4.0], [0.0, 0.5]])
    states = torch.randn(N + 4, 5, generator=torch.manual_seed(1))
    where = torch.arange(1, N + 1)
    entered = (torch.tensor([0.0, 1.0]).expand(N, 2), words)
    return SeenInside(12, 32, where, torch.zeros_like(where), (granted,), text=text, states=states, entered=entered)


def test_words_that_fit_the_last_or_all_rate() -> None:
    def kept(by: Any) -> list[int]:
        return TopsLlm(alpha=0, lam=0, by=by).cut(look(3)).keep.tolist()

    assert kept("fitting") == [9, 10, 11]
    assert kept("last") == [1, 3, 5]
    assert kept("all") == [0, 1, 2]


def test_states_that_repeat_a_pick_give_way() -> None:
    seen = look(3)
    states: Any = seen.states
    states[[10, 11]] = states[12].clone()  # of the three that rate best two repeat the first
    assert TopsLlm(alpha=0, lam=0).cut(seen).keep.tolist() == [9, 10, 11]
    assert len({*TopsLlm(alpha=3, lam=3).cut(seen).keep.tolist()} & {9, 10, 11}) == 1


def test_the_papers_budgets_and_the_mean_of_the_call() -> None:
    assert TopsLlm().plan(1280, 32) == {12: 640, 24: 160}  # 2T, T, T/4
    assert TopsLlm().plan(1280, 40) == {15: 640, 30: 160}
    plan = TopsLlm().plan(2880, 32, mean=1600)
    spent = (12 * 2880 + 12 * plan[12] + 8 * plan[24]) / 32
    assert 1598 < spent <= 1600


def test_it_renumbers_unless_told_not_to(models: Any) -> None:
    assert TopsLlm().cut(look(4)).positions == "after"
    assert TopsLlm(positions="true").cut(look(4)).positions == "true"
    with (
        pytest.raises(UnsupportedError, match="renumbers"),
        herovlm.dropping(models().model, method="tops + tops_llm", positions="original"),
    ):
        pass


def test_without_text_behind_the_image_nobody_rates() -> None:
    with pytest.raises(MethodError, match="question last"):
        TopsLlm(by="last").cut(replace(look(4), text=torch.zeros(0, N + 4)))
