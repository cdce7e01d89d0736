from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen
from hypothesis import given
from hypothesis import strategies as st

from herovlm.errors import MethodError
from herovlm.methods.divprune import DivPrune
from herovlm.types import Needs, Seen

SEEN = make_seen(1, 2, 4, newlines=False)


def heaps(count: int, seed: int) -> tuple[Seen, torch.Tensor]:
    """Patches of all tiles in `count` far heaps of near twins, and which heap each is in."""
    g = torch.Generator().manual_seed(seed)
    heap = torch.randint(count, SEEN.valid.shape, generator=g)
    heap.view(-1)[:count] = torch.arange(count)
    features = torch.eye(8)[heap] * (1 + torch.rand(*heap.shape, 1, generator=g))
    return dataclasses.replace(SEEN, features=features + 0.02 * torch.randn(features.shape, generator=g)), heap


@given(st.integers(1, 8), st.integers(0, 10**6))
def test_as_many_picks_as_heaps_take_one_of_each_from_whatever_tile(count: int, seed: int) -> None:
    seen, heap = heaps(count, seed)
    assert sorted(heap[DivPrune().keep(seen, count).mask].tolist()) == list(range(count))


def test_each_tile_on_its_own_keeps_twins_of_other_tiles() -> None:
    assert SEEN.features is not None
    seen = dataclasses.replace(SEEN, features=SEEN.features[:1].expand(3, -1, -1).contiguous())
    mask = DivPrune(scope="tile").keep(seen, 15).mask
    assert mask[0].equal(mask[1])
    assert mask[0].equal(mask[2])
    assert DivPrune().keep(seen, 15).mask.any(0).sum() == 15


def test_the_first_pick_is_the_loneliest() -> None:
    features = torch.ones(3, 16, 8)
    features[1, 5] = -torch.arange(8.0)
    assert DivPrune().keep(dataclasses.replace(SEEN, features=features), 1).mask.nonzero().tolist() == [[1, 5]]


def test_lengths_do_not_matter() -> None:
    assert SEEN.features is not None
    longer = dataclasses.replace(SEEN, features=SEEN.features * torch.logspace(-2, 2, 16)[:, None])
    assert DivPrune().keep(longer, 20).mask.equal(DivPrune().keep(SEEN, 20).mask)


def test_it_looks_at_features_alone() -> None:
    assert DivPrune().needs(24) == Needs()


OFFICIAL = DivPrune(variant="official")


@pytest.mark.parametrize("budget", [5, 20, 45])
def test_newlines_read_the_same_so_that_one_is_picked_however_unlike_the_patches(budget: int) -> None:
    seen = make_seen(2, 2, 4, (1, 0))
    assert seen.features is not None
    seen = dataclasses.replace(seen, features=seen.features.abs(), newline=-torch.ones(8))
    kept = OFFICIAL.keep(seen, budget)
    assert kept.positions == budget
    assert kept.newlines.sum() == 1
    like = dataclasses.replace(seen, newline=3 * seen.features[0, 0])  # reads like a patch that is there
    beside = OFFICIAL.keep(like, budget)
    assert int(beside.mask[0, 0]) + int(beside.newlines.sum()) <= 1


def test_when_only_repetitions_are_left_newlines_go_by_position() -> None:
    seen = make_seen(2, 2, 4)
    seen = dataclasses.replace(seen, features=torch.ones(5, 16, 8), newline=torch.ones(8))
    kept = OFFICIAL.keep(seen, seen.positions - 1)
    assert kept.positions == seen.positions - 1
    assert not kept.newlines[-1]


def test_a_rule_takes_newlines_out_of_the_contest() -> None:
    seen = make_seen(2, 2, 4, (1, 0))
    for rule in ("none", "touched", "all"):
        assert OFFICIAL.keep(seen, 40, rule).mask.equal(DivPrune().keep(seen, 40, rule).mask)


def test_what_newlines_read_must_be_known_and_they_belong_to_no_tile() -> None:
    with pytest.raises(MethodError, match="newlines"):
        OFFICIAL.keep(dataclasses.replace(make_seen(2, 2, 4), newline=None), 20)
    with pytest.raises(MethodError, match="scope is 'image'"):
        DivPrune(variant="official", scope="tile")
