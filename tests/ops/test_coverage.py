from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from herovlm.ops import coverage, diversity


def draw(rows: int, columns: int, seed: int) -> Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def order(cover: Tensor, count: int, weight: Tensor | None = None) -> Tensor:
    """One contest."""
    return coverage.order(cover[None], count, None if weight is None else weight[None])[0]


def reached(cover: Tensor, picks: list[int]) -> float:
    """What the picks cover, each row by its best pick and never below 0."""
    return float(cover[:, picks].amax(1).clamp(min=0).double().sum()) if picks else 0.0


sizes = (st.integers(1, 9), st.integers(2, 9), st.integers(0, 10**6))


@given(*sizes)
def test_no_other_pick_would_have_covered_more(rows: int, columns: int, seed: int) -> None:
    cover = draw(rows, columns, seed)
    picks = order(cover, columns).tolist()
    for k in range(columns):
        best = reached(cover, picks[: k + 1])
        assert all(reached(cover, [*picks[:k], other]) <= best + 1e-5 for other in picks[k + 1 :])


@given(*sizes, st.data())
def test_fewer_picks_are_the_first_of_more_and_the_others_follow(
    rows: int, columns: int, seed: int, data: st.DataObject
) -> None:
    cover, before = draw(rows, columns, seed), draw(rows, columns, seed)
    count = data.draw(st.integers(0, columns - 1))
    some, all_ = order(cover, count), order(cover, columns + 5)
    assert some.sort().values.equal(torch.arange(columns))
    assert some[: count + 1].equal(all_[: count + 1])
    assert cover.equal(before)


def gains(cover: Tensor, best: Tensor) -> Tensor:
    """What each column would add, summed anew."""
    return (cover.double() - best.double()[:, None]).clamp(min=0).sum(0)


@given(*sizes, st.sampled_from([-1.0, 0.0]))
def test_gains_are_what_each_column_would_add_and_never_grow(rows: int, columns: int, seed: int, start: float) -> None:
    cover = draw(rows, columns, seed)
    covered, best = coverage.Covered(cover[None], start), torch.full((rows,), start)
    for pick in torch.randperm(columns, generator=torch.Generator().manual_seed(seed)):
        before = covered.gain[0].clone()
        torch.testing.assert_close(before, gains(cover, best), atol=1e-6, rtol=0)
        covered.add(pick.view(1, 1))
        best = best.maximum(cover[:, pick])
        assert covered.best[0].equal(best)
        assert (covered.gain[0] <= before + 1e-12).all()
    assert not covered.gain.any(), "all columns are covered exactly"


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_worth_decides_and_not_the_gain(scale: float) -> None:
    cover = draw(6, 8, 3)
    weight = torch.linspace(1, 2, 8) ** 9
    picks = order(cover, 8, weight * scale).tolist()
    best = torch.zeros(6)
    for k, pick in enumerate(picks):
        value = gains(cover, best) * weight
        assert value[pick] >= value[picks[k:]].max() - 1e-5
        best = best.maximum(cover[:, pick])
    assert picks != order(cover, 8).tolist()


def test_a_cluster_sends_one_before_another_sends_two() -> None:
    angles = torch.tensor([0.0, 2, 4, 90, 92, 180]).deg2rad()
    similar = diversity.cosines(torch.stack([angles.cos(), angles.sin()], 1))
    cluster = torch.tensor([0, 0, 0, 1, 1, 2])
    assert cluster[order(similar, 3)[:3]].sort().values.tolist() == [0, 1, 2]
