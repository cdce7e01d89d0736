from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from herovlm.ops import allocate
from herovlm.types import Counts

weights = st.floats(0, 1e6) | st.sampled_from([0.0, 1e-300, 1e300, math.nan, math.inf, -1.0])
tiles = st.lists(st.tuples(weights, st.integers(0, 600)), min_size=1, max_size=12)


def tensors(pairs: list[tuple[float, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([w for w, _ in pairs], dtype=torch.float64), torch.tensor([c for _, c in pairs])


@given(tiles, st.integers(0, 9000))
def test_exact_spends_everything_and_respects_capacity(pairs: list[tuple[float, int]], budget: int) -> None:
    weight, capacity = tensors(pairs)
    granted = allocate.exact(weight, budget, capacity)
    assert granted.dtype == torch.int64
    assert granted.sum() == min(budget, capacity.sum())
    assert ((granted >= 0) & (granted <= capacity)).all()


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=12), st.integers(0, 5000))
def test_exact_is_within_one_of_the_quota_when_nothing_is_full(weight: list[float], budget: int) -> None:
    granted = allocate.exact(torch.tensor(weight, dtype=torch.float64), budget, torch.full((len(weight),), 10_000))
    for n, w in zip(granted.tolist(), weight, strict=True):
        assert abs(n - budget * w / math.fsum(weight)) < 1 + 1e-9


@given(tiles, st.integers(0, 9000))
def test_a_heavier_tile_with_as_much_room_gets_no_less(pairs: list[tuple[float, int]], budget: int) -> None:
    weight, capacity = tensors([(w if 1e-200 < w < 1e90 else 0.0, 300) for w, _ in pairs])
    granted = allocate.exact(weight, budget, capacity)
    order = weight.argsort(descending=True, stable=True)
    assert (granted[order].diff() <= 0).all()


@given(tiles, st.integers(0, 9000))
def test_scale_of_the_weights_does_not_matter(pairs: list[tuple[float, int]], budget: int) -> None:
    weight, capacity = tensors([(w if 1 < w < math.inf else 1.0, c) for w, c in pairs])
    assert allocate.exact(weight, budget, capacity).equal(allocate.exact(weight * 2.0**-40, budget, capacity))


def test_overflow_is_handed_on_by_weight() -> None:
    granted = allocate.exact(torch.tensor([8.0, 3.0, 1.0]), 120, torch.tensor([40, 100, 100]))
    assert granted.tolist() == [40, 60, 20]


def test_equal_remainders_go_to_the_first() -> None:
    assert allocate.exact(torch.ones(4), 6, torch.full((4,), 9)).tolist() == [2, 2, 1, 1]


def test_without_any_weight_capacity_decides() -> None:
    assert allocate.exact(torch.zeros(3), 30, torch.tensor([10, 20, 30])).tolist() == [5, 10, 15]


def test_weightless_tiles_are_served_last() -> None:
    assert allocate.exact(torch.tensor([1.0, 0.0, 0.0]), 30, torch.tensor([20, 40, 10])).tolist() == [20, 8, 2]


def test_no_tiles_and_no_budget() -> None:
    assert allocate.exact(torch.zeros(0), 7, torch.zeros(0, dtype=torch.int64)).tolist() == []
    assert allocate.exact(torch.ones(2), 0, torch.ones(2, dtype=torch.int64)).tolist() == [0, 0]


@given(tiles, st.integers(0, 9000))
def test_floored_never_exceeds_what_exact_would_spend(pairs: list[tuple[float, int]], budget: int) -> None:
    weight, capacity = tensors([(w if 0 < w < math.inf else 1.0, c) for w, c in pairs])
    weight = weight / weight.max()
    weight = weight / weight.sum()
    granted = allocate.floored(weight, budget, capacity)
    assert ((granted >= 0) & (granted <= capacity)).all()
    assert granted.sum() <= budget


@pytest.mark.parametrize("budget", [0, 1, 921])
def test_floored_is_the_worked_example_of_the_authors(budget: int) -> None:
    weight = torch.tensor([0.30308563, 0.3286686, 0.12768218, 0.24056357])
    expected = {0: [0, 0, 0, 0], 1: [0, 0, 0, 0], 921: [279, 302, 117, 221]}[budget]
    assert allocate.floored(weight, budget, torch.full((4,), 432)).tolist() == expected


@given(tiles, st.integers(0, 9000))
def test_the_host_divides_as_the_device_does(pairs: list[tuple[float, int]], budget: int) -> None:
    weight, capacity = tensors(pairs)
    assert (
        allocate.shares(weight.tolist(), budget, capacity.tolist()) == allocate.exact(weight, budget, capacity).tolist()
    )


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(0, 30), st.integers(0, 4), st.integers(0, 4))
def test_two_levels_spend_all_and_overflow_into_each_other(
    local: list[int], budget: int, whole: int, first: int
) -> None:
    capacity = torch.tensor([whole, *local])
    counts = Counts(torch.arange(4) < capacity[:, None], tuple(capacity.tolist()), 0)
    granted = allocate.nested((float(first), 1.0), torch.ones(len(local)), budget, counts)
    assert int(granted.sum()) == min(budget, int(capacity.sum()))
    assert bool(((granted >= 0) & (granted <= capacity)).all())
    if first == 0 and budget <= sum(local):
        assert int(granted[0]) == 0


def test_ties_by_capacity_go_to_the_first() -> None:  # quotas 58.5 and 6.5 beside tiles that are full
    weight, capacity = torch.tensor([0.24, 0.0, 0.35, 0.0]), torch.tensor([423, 576, 4, 64])
    assert allocate.exact(weight, 423 + 4 + 65, capacity).tolist() == [423, 59, 4, 6]
