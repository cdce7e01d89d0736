from __future__ import annotations

import dataclasses

import torch
from grids import make_seen
from hypothesis import given
from hypothesis import strategies as st

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
