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


def test_an_even_walk_stands_in_the_middle_of_its_stretches() -> None:
    assert spread.evenly(torch.ones(1, 12, dtype=torch.bool), counts(3))[0].nonzero()[:, 0].tolist() == [2, 6, 10]
    assert spread.evenly(torch.zeros(1, 4, dtype=torch.bool), counts(0)).sum() == 0


def test_steps_number_the_patches_of_the_walk_only() -> None:
    ok = torch.tensor([[True, False] * 5, [True] * 10])
    chosen = spread.stepped(ok, counts(2, 3), counts(1, 0), counts(5, 9))
    assert chosen[0].nonzero()[:, 0].tolist() == [2, 6]  # numbers 1 and 3 of 0..4
    assert chosen[1].nonzero()[:, 0].tolist() == [0, 3, 6]


def test_a_step_below_one_takes_all() -> None:
    assert spread.stepped(torch.ones(1, 4, dtype=torch.bool), counts(0), counts(0), counts(3)).sum() == 3
