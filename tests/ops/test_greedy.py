"""Contests: each picks as it would alone, word by word by its rule; a pick is a few launches for all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from grids import make_seen
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from herovlm.ops import coverage, diversity, greedy, threefold

Order = Callable[..., Tensor]  # similar (C, n, n), quality (C, n), count, inside -> (C, n)


def farthest(similar: Tensor, _: Tensor, count: int, inside: Tensor | None = None) -> Tensor:
    return diversity.k_center(similar, diversity.loneliest(similar, inside), count, inside)


def least_sum(similar: Tensor, quality: Tensor, count: int, inside: Tensor | None = None) -> Tensor:
    known = quality if inside is None else quality.masked_fill(~inside, -1)
    return diversity.max_sum(similar, known.argmax(1, keepdim=True), count, inside)


def volume(similar: Tensor, quality: Tensor, count: int, inside: Tensor | None = None) -> Tensor:
    return diversity.dpp(similar, quality, count, inside)


def weighed(similar: Tensor, quality: Tensor, count: int, inside: Tensor | None = None) -> Tensor:
    return coverage.order(coverage.among(similar, inside), count, quality, inside=inside)


def added(similar: Tensor, quality: Tensor, count: int, inside: Tensor | None = None) -> Tensor:
    return coverage.order(coverage.among(similar, inside), count, quality, "sum", inside)


def three(similar: Tensor, quality: Tensor, count: int, inside: Tensor | None = None) -> Tensor:
    return threefold.order(similar, quality, count, alpha=0.5, lam=0.5, inside=inside)


ORDERS: list[Order] = [farthest, least_sum, volume, weighed, added, three]
ODD: dict[str, Callable[[Tensor], Tensor]] = {
    "as drawn": lambda x: x,
    "whole numbers": lambda x: x.round(),
    "all equal": torch.ones_like,
    "nothing": torch.zeros_like,
    "each there twice": lambda x: x[..., torch.arange(x.shape[-2]) // 2, :],
}


def drawn(contests: int, n: int, seed: int, odd: str = "as drawn") -> tuple[Tensor, Tensor]:
    """Cosines and qualities in steps of 1/8, so that sums are exact and ties are ties."""
    g = torch.Generator().manual_seed(seed)
    features = ODD[odd](torch.randn(contests, n, 4, generator=g))
    quality = ODD[odd](torch.rand(contests, n, 1, generator=g))[..., 0]
    return (8 * diversity.cosines(features)).round() / 8, (8 * quality).round() / 8


def slowly(value: Callable[[list[int]], list[float]], count: int) -> list[int]:
    """Pick the first of the largest that is not picked yet."""
    picks: list[int] = []
    while len(picks) < count:
        now = value(picks)
        left = [j for j in range(len(now)) if j not in picks]
        picks.append(max(left, key=lambda j: (now[j], -j)))
    return picks


def by_rule(order: Order, similar: Tensor, quality: Tensor) -> Callable[[list[int]], list[float]]:
    """What every patch of one contest is worth beside the picks, from its definition."""
    s, q = similar.double(), quality.double()
    n = len(q)

    def value(picks: list[int]) -> list[float]:
        if order in (weighed, added):
            best = torch.stack([s[:, j] for j in picks]).amax(0).clamp(min=0) if picks else torch.zeros(n)
            gain = (s - best.double()[:, None]).clamp(min=0).sum(0)
            return (gain * q if order is weighed else gain + q).tolist()
        if picks:
            beside = s[picks]
            return (-beside.sum(0) if order is least_sum else 1 - beside.amax(0)).tolist()
        return q.tolist() if order is least_sum else (-s.clone().fill_diagonal_(-torch.inf).amax(1)).tolist()

    return value


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("order", [farthest, least_sum, weighed, added])
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_it_picks_word_by_word_by_its_rule_and_the_first_of_equal_ones(
    order: Order, odd: str, n: int, seed: int
) -> None:
    similar, quality = drawn(3, n, seed, odd)
    count = n // 2 + 1
    found = order(similar, quality, count)
    for c in range(3):
        assert found[c, :count].tolist() == slowly(by_rule(order, similar[c], quality[c]), count)


@pytest.mark.parametrize("order", [volume, three])
def test_where_all_are_alike_the_first_come_first(order: Order) -> None:
    assert order(torch.ones(2, 9, 9), torch.ones(2, 9), 5).tolist() == [list(range(9))] * 2


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("order", ORDERS)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 10**6))
def test_a_contest_picks_as_if_it_were_alone_whatever_fills_its_row(
    order: Order, odd: str, rooms: list[int], seed: int
) -> None:
    similar, quality = drawn(len(rooms), max(rooms), seed, odd)
    before = similar.clone(), quality.clone()
    inside = torch.arange(max(rooms)) < torch.tensor(rooms)[:, None]
    found = order(similar, quality, max(rooms), inside)
    for c, room in enumerate(rooms):
        alone = order(similar[c : c + 1, :room, :room], quality[c : c + 1, :room], room)
        assert found[c, :room].tolist() == alone[0].tolist()
    assert similar.equal(before[0])
    assert quality.equal(before[1])


class Launches(TorchDispatchMode):
    """Counts operations that are no views: what a device has to start."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def a_pick(loop: Any, contests: int, *given: Any, at: int) -> float:
    """Launches a pick, as on a device: many contests share them."""
    found = []
    for count in (8, 24):
        with Launches() as launches:
            loop.__wrapped__(*given[:at], count, *given[at:])
        found.append(launches.count)
    return (found[1] - found[0]) / 16


@pytest.mark.parametrize("contests", [2, 7])
def test_a_pick_is_a_few_launches_for_all_contests_together(contests: int) -> None:
    similar, quality = drawn(contests, 40, 0)
    inside, first = torch.ones_like(quality, dtype=torch.bool), torch.zeros(contests, 1, dtype=torch.int64)
    for nearest in (True, False):
        assert a_pick(diversity._unlike, contests, similar, first, inside, nearest, at=3) == 3
    assert a_pick(diversity._dpp, contests, similar, quality, inside, at=3) <= 13
    assert a_pick(coverage._cover, contests, similar, 0 * quality, quality, at=3) <= 10
    assert a_pick(threefold._threefold, contests, similar, quality, inside, 0.5, 0.5, "mean", at=3) <= 26


@pytest.mark.parametrize("shape", [(2, 2, 4, (1, 0)), (1, 2, 4, (0, 3)), (2, 2, 3, (0, 0)), (1, 2, 4, (2, 0))], ids=str)
@pytest.mark.parametrize("scope", ["tile", "image"])
def test_scores_fall_in_the_order_of_each_contest_and_padding_has_none(shape: Any, scope: Any) -> None:
    seen = make_seen(*shape, newlines=False)
    contests = greedy.Contests.of(seen, scope, seen.positions // 3)
    places = contests.take(torch.arange(seen.valid.numel()).view_as(seen.valid))  # (C, M)
    backwards = places.masked_fill(~contests.inside, -1) if contests.inside is not None else places
    scores = contests.scores(backwards.argsort(dim=1, descending=True))
    rows = zip(seen.valid, scores, strict=True) if scope == "tile" else [(seen.valid.flatten(), scores.flatten())]
    for valid, own in rows:
        assert own[valid].tolist() == list(range(1, int(valid.sum()) + 1))
        assert not own[~valid].any()


def test_as_many_picks_as_any_contest_can_need() -> None:
    seen = make_seen(2, 2, 6, (2, 0))
    for patches in (1, 50, seen.counts.patches, 10**6):
        most = max(-(-room * min(patches, seen.counts.patches) // seen.counts.patches) for room in seen.counts.room)
        assert greedy.Contests.of(seen, "tile", patches).count == most
        assert greedy.Contests.of(seen, "image", patches).count == min(patches, seen.counts.patches)


def test_padding_may_come_before_the_contest_but_not_of_tiles_that_are_nothing_else() -> None:
    seen = make_seen(1, 2, 4, (2, 0))  # all padding but the thumbnail
    assert greedy.Contests.of(seen, "image", 5, padding=True).take(seen.features).shape[1] == 16  # type: ignore[arg-type]
    seen = dataclasses.replace(make_seen(1, 1, 4, (1, 0)))
    contests = greedy.Contests.of(seen, "tile", 5, padding=True)
    assert contests.take(seen.features).equal(seen.features)  # type: ignore[arg-type]
    assert contests.inside is not None
    assert contests.inside.equal(seen.valid)


def test_features_that_are_trained_pass_through() -> None:
    features = torch.randn(1, 9, 4, requires_grad=True)
    for order in ORDERS:
        assert not order(diversity.cosines(features), torch.ones(1, 9), 4).requires_grad
