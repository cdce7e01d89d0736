from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from herovlm.ops import diversity


def draw(n: int, channels: int, seed: int) -> Tensor:
    return torch.randn(n, channels, generator=torch.Generator().manual_seed(seed))


def by_max_sum(similar: Tensor, count: int) -> Tensor:
    return diversity.max_sum(similar[None], torch.tensor([[len(similar) // 2]]), count)[0]


def by_k_center(similar: Tensor, count: int) -> Tensor:
    return diversity.k_center(similar[None], torch.tensor([[len(similar) // 2]]), count)[0]


def by_dpp(similar: Tensor, count: int) -> Tensor:
    return diversity.dpp(similar[None], torch.linspace(1, 2, len(similar))[None], count)[0]


def sum_reached(similar: Tensor, picks: list[int]) -> float:
    return -float(similar[picks][:, picks].sum())


def distance_reached(similar: Tensor, picks: list[int]) -> float:
    """Of the last pick to the nearest before."""
    return 1 - float(similar[picks[-1], picks[:-1]].max())


def volume_reached(similar: Tensor, picks: list[int]) -> float:
    quality = torch.linspace(1, 2, len(similar)).double()[picks]
    return float((quality[:, None] * similar[picks][:, picks].double() * quality).logdet())


GREEDY = [(by_max_sum, sum_reached), (by_k_center, distance_reached), (by_dpp, volume_reached)]
sizes = (st.integers(2, 14), st.integers(0, 10**6))


@pytest.mark.parametrize(("order", "reached"), GREEDY)
@given(*sizes)
def test_no_other_pick_would_have_reached_more(
    order: Callable[..., Tensor], reached: Callable[..., float], n: int, seed: int
) -> None:
    similar = diversity.cosines(draw(n, 16, seed))  # more channels than rows: every volume is positive
    picks = order(similar, n).tolist()
    for k in range(1, n):
        best = reached(similar, picks[: k + 1])
        assert all(reached(similar, [*picks[:k], other]) <= best + 1e-4 for other in picks[k + 1 :])


@pytest.mark.parametrize("order", [by_max_sum, by_k_center, by_dpp])
@given(*sizes, st.data())
def test_fewer_picks_are_the_first_of_more_and_the_others_follow(
    order: Callable[..., Tensor], n: int, seed: int, data: st.DataObject
) -> None:
    similar = diversity.cosines(draw(n, 3, seed))
    count = data.draw(st.integers(0, n - 1))
    some, all_ = order(similar, count), order(similar, n + 5)
    assert some.sort().values.equal(torch.arange(n))
    assert all_.sort().values.equal(torch.arange(n))
    assert some[: count + 1].equal(all_[: count + 1])


def test_the_first_pick_is_given() -> None:
    similar = diversity.cosines(draw(9, 4, 0))
    for order in (diversity.max_sum, diversity.k_center):
        assert [int(order(similar[None], torch.tensor([[first]]), 3)[0, 0]) for first in range(9)] == list(range(9))


def test_a_twin_of_a_pick_is_last() -> None:
    features = draw(8, 16, 1)
    features[5] = 3 * features[2]  # cosine 1
    similar = diversity.cosines(features)
    k_center = diversity.k_center(similar[None], torch.tensor([[2]]), 8)
    for order in (k_center, diversity.dpp(similar[None], torch.ones(1, 8), 8)):
        assert int(order[0, -1]) in (2, 5)


def test_when_the_picks_span_everything_quality_decides() -> None:
    quality = torch.rand(20, generator=torch.Generator().manual_seed(3)) + 0.5
    order = diversity.dpp(diversity.cosines(draw(20, 2, 2))[None], quality[None], 20)[0]
    rest = quality[order[2:]]
    assert rest.equal(rest.sort(descending=True).values)


def test_the_loneliest_is_far_from_its_nearest_and_not_from_the_mean() -> None:
    degrees = torch.tensor([0.0, 1, 90, 180, 182, 181]).deg2rad()  # 180 is opposite to 0, but has neighbours
    similar = diversity.cosines(torch.stack([degrees.cos(), degrees.sin()], 1))
    assert diversity.loneliest(similar[None]).tolist() == [[2]]
    assert diversity.loneliest(torch.ones(2, 1, 1)).tolist() == [[0], [0]]


def test_cosines_of_half_precision_are_those_of_its_float32_values() -> None:
    features = draw(6, 5, 4).bfloat16()
    assert diversity.cosines(features).equal(diversity.cosines(features.float()))
    assert diversity.cosines(torch.zeros(2, 5)).equal(torch.zeros(2, 2))
