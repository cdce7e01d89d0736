"""FastV: the last token's attention, averaged over heads, each image its own share."""

from __future__ import annotations

import torch

from herovlm.methods.inside.fastv import FastV
from herovlm.types import SeenInside


def look(last: list[list[float]], granted: tuple[int, ...]) -> SeenInside:
    """Text, three positions of one image, text, two of another, text."""
    return SeenInside(
        2, 4, torch.tensor([1, 2, 3, 5, 6]), torch.tensor([0, 0, 0, 1, 1]), granted, last=torch.tensor(last)
    )


def test_heads_are_averaged_and_text_is_not_counted() -> None:
    one = [0.9, 0.0, 0.3, 0.2, 0.9, 0.1, 0.0, 0.9]
    two = [0.9, 0.4, 0.0, 0.2, 0.9, 0.0, 0.3, 0.9]
    assert FastV().cut(look([one, two], (2, 1))).keep.tolist() == [0, 2, 4]  # 0.2, 0.15, 0.2 and 0.05, 0.15: a tie
    assert FastV().cut(look([one], (2, 1))).keep.tolist() == [1, 2, 3]


def test_the_number_is_a_share_or_a_count() -> None:
    assert FastV(keep=0.25).plan(577, 32) == {2: 144}
    assert FastV(tokens=100, layer=0.25).plan(577, 32) == {8: 100}
    assert FastV(tokens=100).plan(30, 32) == {2: 30}
    assert FastV().plan(100, 32) == {2: 50}, "the paper's half, in a chain"
    assert FastV().plan(100, 32, mean=25.0) == {2: 20}  # (2 * 100 + 30 * 20) / 32
    assert FastV(keep=0.7).plan(100, 32, mean=25.0) == {2: 70}, "its own number counts"
