from __future__ import annotations

import pytest
import torch

from herovlm.ops import spread


def counts(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 6, 11])
def test_an_even_walk_takes_as_many_as_asked_with_even_gaps(count: int) -> None:
    ok = torch.rand(3, 20, generator=torch.Generator().manual_seed(0)).argsort(1) < 12
    chosen = spread.evenly(ok, counts(count, count, count))
    assert chosen.sum(1).tolist() == [count] * 3
    assert not (chosen & ~ok).any()
    for some, tile in zip(chosen, ok, strict=True):
        gaps = some[tile].nonzero()[:, 0].diff()  # numbers among the patches of the walk
        assert not gaps.numel() or gaps.max() - gaps.min() <= 1


def test_an_even_walk_stands_in_the_middle_of_its_segments() -> None:
    assert spread.evenly(torch.ones(1, 12, dtype=torch.bool), counts(3))[0].nonzero()[:, 0].tolist() == [2, 6, 10]
    assert spread.evenly(torch.zeros(1, 4, dtype=torch.bool), counts(0)).sum() == 0


def test_steps_number_the_patches_of_the_walk_only() -> None:
    ok = torch.tensor([[True, False] * 5, [True] * 10])
    chosen = spread.stepped(ok, counts(2, 3), counts(1, 0), counts(5, 9))
    assert chosen[0].nonzero()[:, 0].tolist() == [2, 6]  # numbers 1 and 3 of 0..4
    assert chosen[1].nonzero()[:, 0].tolist() == [0, 3, 6]


def test_a_step_below_one_takes_all() -> None:
    assert spread.stepped(torch.ones(1, 4, dtype=torch.bool), counts(0), counts(0), counts(3)).sum() == 3


def whole(height: int, width: int, count: int) -> torch.Tensor:
    ok = torch.ones(height, width, dtype=torch.bool)
    return spread.lattice(ok, height * width, (range(height), range(width)), count)


def test_a_lattice_stands_in_the_middle_of_even_cells() -> None:
    mask = whole(6, 6, 4)
    assert mask.nonzero().tolist() == [[1, 1], [1, 4], [4, 1], [4, 4]]
    mask = whole(4, 4, 4)  # no middle: the upper left one
    assert mask.nonzero().tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]


def test_a_lattice_fills_as_few_rows_as_square_cells_need() -> None:
    assert whole(24, 24, 115).any(1).sum() == 11


@pytest.mark.parametrize("seed", range(6))
def test_a_lattice_has_exactly_as_many_cells_as_asked(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    ok = torch.rand(5, 3 + seed, generator=draw) < torch.rand(1, generator=draw)
    frame = range(ok.shape[0]), range(ok.shape[1])
    for count in range(int(ok.sum()) + 1):
        mask = spread.lattice(ok, int(ok.sum()), frame, count)
        assert mask.sum() == count
        assert not (mask & ~ok).any()
