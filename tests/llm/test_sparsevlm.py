"""SparseVLM: fitting words rate, and the best of the rest lives on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from herovlm.errors import MethodError
from herovlm.methods.inside.common import raters
from herovlm.methods.inside.sparsevlm import SparseVlm
from herovlm.types import SeenInside

N = 12  # positions of the image, between one token of text and three


def look(granted: int) -> SeenInside:
    rating = torch.arange(float(N)) / N
    text = torch.zeros(3, N + 4)
    text[0, 1 : N + 1] = text[1, 1 : N + 1] = 1 - rating  # these two do not fit the picture
    text[2, 1 : N + 1] = rating
    words = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.0, 4.0]])
    visual = torch.tensor([0.0, 1.0]).expand(N, 2)
    states = torch.arange(N + 4.0)[:, None].expand(-1, 3)
    where = torch.arange(1, N + 1)
    image = torch.zeros_like(where)
    return SeenInside(3, 32, where, image, (granted,), text=text, states=states, entered=(visual, words))


def test_only_words_that_fit_the_picture_rate_it() -> None:
    assert SparseVlm(recycle=0).cut(look(4)).keep.tolist() == [8, 9, 10, 11]


def test_the_best_of_what_goes_merges_into_one_that_stays() -> None:
    cut = SparseVlm().cut(look(4))  # 3 stay; of the other nine 30 % and one more are merged: 6, 7 and 8
    assert cut.merged is not None
    assert cut.weights is not None
    assert cut.keep.tolist() == [8, 9, 10, 11]  # with one centre all are equally dense, and the best rated is it
    assert cut.merged.tolist() == [True, False, False, False]
    torch.testing.assert_close(cut.weights[0], torch.tensor([0.0] * 6 + [1 / 3] * 3 + [0.0] * 3))


@pytest.mark.parametrize("positions", [1, 2, 11, 100, 577])
def test_kept_and_merged_are_what_was_granted(positions: int) -> None:
    for recycle in (0.0, 0.3, 1.0):
        method = SparseVlm(recycle=recycle)
        for count in range(1, positions + 1):
            plain, joined = method.split(positions, count, 0)
            assert plain + joined == count
            assert joined <= (method.recycled(positions - plain) if recycle else 0)
            assert joined == 0 or plain + method.recycled(positions - plain) <= positions


def test_the_authors_counts() -> None:
    assert SparseVlm().plan(576, 32) == {3: 300, 7: 200, 16: 110}
    assert SparseVlm(keep=0.5).plan(100, 32) == {3: 100, 7: 91, 16: 50}


@pytest.mark.parametrize(
    ("plain", "left"),
    [((300, 200, 110), (309, 204, 113)), ((303, 110, 36), (312, 117, 39)), ((66, 30, 17), (82, 32, 18))],
)
def test_the_authors_counts_are_of_what_stays_as_it_is(plain: tuple[int, ...], left: tuple[int, ...]) -> None:
    method = SparseVlm(plain=plain)
    assert tuple(method.plan(576, 32).values()) == left
    assert method.settled
    for stage, (before, after) in enumerate(zip((576, *left), left, strict=False)):
        assert method.split(before, after, stage) == (plain[stage], after - plain[stage])


def test_two_counts_that_come_to_the_same_are_told_apart() -> None:
    for plain, groups in ((34, 2), (35, 1)):  # of 64: 30 dropped make two groups, 29 one
        method = SparseVlm(plain=(plain, 5, 5))
        assert method.plan(64, 32)[3] == 36
        assert method.split(64, 36, 0) == (plain, groups)


def test_words_that_fit_no_better_than_all_do_not_rate_and_a_lone_word_does() -> None:
    words = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    same = replace(look(4), entered=(torch.ones(N, 2), words))
    assert raters(same, "sparsevlm").all()
    alone = replace(look(4), entered=(torch.ones(N, 2), words[:1]))
    assert raters(alone, "sparsevlm").tolist() == [True]
    words[2, 1] = 5
    assert raters(replace(same, entered=(torch.ones(N, 2), words)), "sparsevlm").tolist() == [False, False, True]


def test_as_in_the_code_merged_positions_stand_behind_the_kept_ones() -> None:
    method, states = SparseVlm(recycle=1.0, positions="code"), torch.randn(N, 3, generator=torch.manual_seed(0))
    seen = look(6)
    seen = replace(seen, states=torch.cat([torch.zeros(1, 3), states, torch.zeros(3, 3)]))
    cut, plain = method.cut(seen), replace(method, positions="true").cut(seen)
    assert cut.positions == "after"
    assert cut.merged is not None
    assert cut.merged.tolist() == sorted(cut.merged.tolist())
    assert cut.keep[~cut.merged].tolist() == sorted(cut.keep[~cut.merged].tolist())
    assert plain.keep.tolist() == sorted(cut.keep.tolist())
    assert cut.keep.tolist() != plain.keep.tolist()
    assert plain.merged is not None
    assert plain.weights is not None
    assert cut.weights is not None
    ours = dict(zip(plain.keep[plain.merged].tolist(), plain.weights.tolist(), strict=True))
    assert ours == dict(zip(cut.keep[cut.merged].tolist(), cut.weights.tolist(), strict=True))


def test_without_text_behind_the_image_nobody_rates() -> None:
    with pytest.raises(MethodError, match="question last"):
        SparseVlm().cut(replace(look(4), entered=(torch.ones(N, 2), torch.ones(0, 2))))
