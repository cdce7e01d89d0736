"""ToDRE, second stage: all or nothing, by the attention between text and picture."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from herovlm.methods.inside.todre import ToDreLlm
from herovlm.types import SeenInside

LOOK = SeenInside(
    7,
    8,
    torch.tensor([1, 2, 4]),
    torch.tensor([0, 0, 1]),
    (2, 1),
    text=torch.tensor([[0.9, 0.02, 0.02, 0.03, 0.03, 0.0], [0.8, 0.02, 0.02, 0.1, 0.01, 0.05]]),  # 0.07 and 0.05
    back=torch.tensor([0.0, 0.0, 0.1]),  # mean 0.033
)


@pytest.mark.parametrize(("threshold", "left"), [(0.1, 0), (0.061, 0), (0.059, 3), (0.0, 3)])
def test_the_mean_over_the_text_is_compared(threshold: float, left: int) -> None:
    assert len(ToDreLlm(threshold=threshold).cut(LOOK).keep) == left


def test_text_behind_which_a_picture_stands_can_hold_it() -> None:
    looking = replace(LOOK, back=torch.tensor([0.0, 0.0, 0.6]))
    assert ToDreLlm().cut(looking).keep.tolist() == [0, 1, 2]


def test_without_text_there_is_nothing_to_judge_by() -> None:
    assert len(ToDreLlm().cut(replace(LOOK, text=torch.zeros(0, 6))).keep) == 3


def test_it_cuts_after_seven_eighths() -> None:
    assert list(ToDreLlm().needs(32)) == [28]
    assert ToDreLlm().plan(577, 32) == {28: 577}
    assert not ToDreLlm().exact
