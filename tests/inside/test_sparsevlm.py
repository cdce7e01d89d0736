"""SparseVLM: fitting words rate, and the best of the rest lives on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from herovlm.errors import MethodError
from herovlm.methods.inside.sparsevlm import SparseVlm
from herovlm.types import Look

N = 12  # positions of the image, between one token of text and three


def look(granted: int) -> Look:
    rating = torch.arange(float(N)) / N
    text = torch.zeros(3, N + 4)
    text[0, 1 : N + 1] = text[1, 1 : N + 1] = 1 - rating  # these two do not fit the picture
    text[2, 1 : N + 1] = rating
    words = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.0, 4.0]])
    visual = torch.tensor([0.0, 1.0]).expand(N, 2)
    states = torch.arange(N + 4.0)[:, None].expand(-1, 3)
    where = torch.arange(1, N + 1)
    image = torch.zeros_like(where)
    return Look(3, 32, where, image, (granted,), text=text, states=states, entered=(visual, words))


def test_only_words_that_fit_the_picture_rate_it() -> None:
    assert SparseVlm(recycle=0).cut(look(4)).keep.tolist() == [8, 9, 10, 11]


def test_the_best_of_what_goes_melts_into_one_that_stays() -> None:
    cut = SparseVlm().cut(look(4))  # 3 stay; of the other nine 30 % and one more are melted: 6, 7 and 8
    assert cut.merged is not None
    assert cut.weights is not None
    assert cut.keep.tolist() == [6, 9, 10, 11]  # with one centre all are equally dense, and the first is it
    assert cut.merged.tolist() == [True, False, False, False]
    torch.testing.assert_close(cut.weights[0], torch.tensor([0.0] * 6 + [1 / 3] * 3 + [0.0] * 3))


@pytest.mark.parametrize("positions", [1, 2, 11, 100, 577])
def test_kept_and_molten_are_what_was_granted(positions: int) -> None:
    for recycle in (0.0, 0.3, 1.0):
        method = SparseVlm(recycle=recycle)
        for count in range(1, positions + 1):
            plain, molten = method.split(positions, count)
            assert plain + molten == count
            assert molten <= (method.recycled(positions - plain) if recycle else 0)
            assert molten == 0 or plain + method.recycled(positions - plain) <= positions


def test_the_authors_counts() -> None:
    assert SparseVlm().plan(576, 32) == {3: 300, 7: 200, 16: 110}
    assert SparseVlm(keep=0.5).plan(100, 32) == {3: 100, 7: 91, 16: 50}


def test_without_text_behind_the_image_nobody_rates() -> None:
    with pytest.raises(MethodError, match="question last"):
        SparseVlm().cut(replace(look(4), text=torch.zeros(0, N + 4)))
