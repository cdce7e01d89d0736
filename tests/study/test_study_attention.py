"""What is measured of CLS attention, on tensors whose right answers are known."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from grids import make_seen
from torch import Tensor

from herovlm.study.measure import attention
from herovlm.types import Seen

VALID = torch.ones(1, 4, dtype=torch.bool)
NORMS = torch.tensor([[0.0, 1 / 3, 2 / 3, 1.0]])


def one_tile(*rows: list[float]) -> Tensor:
    return torch.tensor(rows)[:, None]  # (L, 1, 4)


def test_entropy_is_one_where_all_get_the_same_and_nothing_where_one_gets_all() -> None:
    found = attention.measures(one_tile([0.25] * 4, [0, 1, 0, 0], [0.5, 0.5, 0, 0]), NORMS, VALID)
    assert found["entropy"][0].tolist() == pytest.approx([1.0, 0.0, 0.5])


def test_norm_is_that_of_what_is_looked_at() -> None:
    found = attention.measures(one_tile([0.25] * 4, [0, 0, 0, 1.0], [0.5, 0.5, 0, 0]), NORMS, VALID)
    assert found["norm"][0].tolist() == pytest.approx([0.5, 1.0, 1 / 6])


def test_foreground_gets_its_share_of_attention_and_of_area() -> None:
    own = torch.tensor([[True, False, False, False]])
    found = attention.measures(one_tile([0.25] * 4, [0.7, 0.1, 0, 0.2]), NORMS, VALID, own)
    assert found["foreground"][0].tolist() == pytest.approx([0.25, 0.7])
    assert found["area"][0].tolist() == pytest.approx([0.25, 0.25])
    assert found["background_norm"][0].tolist() == pytest.approx([2 / 3, (0.1 / 3 + 0.2) / 0.3])


def test_a_tile_without_foreground_says_nothing_about_it() -> None:
    found = attention.measures(one_tile([0.25] * 4), NORMS, VALID, torch.zeros(1, 4, dtype=torch.bool))
    assert all(math.isnan(float(found[name][0, 0])) for name in ("foreground", "area", "background_norm"))


def test_overlap_is_intersection_over_union_of_the_top_tokens() -> None:
    count = 40  # a tenth of them are 4
    rows = torch.zeros(3, 1, count)
    rows[0, 0, [0, 1, 2, 3]] = rows[1, 0, [0, 1, 10, 11]] = rows[2, 0, [20, 21, 22, 23]] = 0.25
    found = attention.measures(rows, torch.zeros(1, count), torch.ones(1, count, dtype=torch.bool))["overlap"][0]
    assert found.tolist() == [[1.0, pytest.approx(2 / 6), 0.0], [pytest.approx(2 / 6), 1.0, 0.0], [0.0, 0.0, 1.0]]


@pytest.fixture
def seen() -> Seen:
    """A picture whose upper rows are padding, with attention of two blocks."""
    base = make_seen(1, 2, 4, (1, 0))
    row = torch.rand(base.valid.shape[0], 3, 16, generator=torch.Generator().manual_seed(0))
    hidden = torch.arange(1.0, 1 + base.valid.numel()).view(*base.valid.shape, 1)
    return dataclasses.replace(base, attention={1: row.flip(0), 0: row}, hidden=hidden)


def test_shares_are_of_valid_patches_only(seen: Seen) -> None:
    assert not seen.valid.all()
    rows = attention.shares(seen)
    assert rows.shape == (2, *seen.valid.shape)
    torch.testing.assert_close(rows.sum(-1), torch.ones(2, len(seen.valid)))
    assert rows[:, ~seen.valid].sum() == 0
    mean = seen.attention[0].mean(1)
    torch.testing.assert_close(rows[0, 0] / rows[0, 0].sum(), mean[0] * seen.valid[0] / mean[0][seen.valid[0]].sum())


def test_norms_are_ranked_within_the_valid_patches_of_a_tile(seen: Seen) -> None:
    ranks = attention.norm_ranks(seen)
    for tile, valid in enumerate(seen.valid):
        torch.testing.assert_close(ranks[tile, valid], torch.linspace(0, 1, int(valid.sum())))
        assert ranks[tile, ~valid].sum() == 0


def test_means_over_thumbnail_and_local_tiles(seen: Seen) -> None:
    found = attention.measure(seen)
    assert set(found) == {"thumbnail", "local"}
    by_tile = attention.measures(attention.shares(seen), attention.norm_ranks(seen), seen.valid)
    assert found["thumbnail"]["norm"] == pytest.approx(by_tile["norm"][0].tolist(), abs=1e-4)
    assert found["local"]["norm"] == pytest.approx(by_tile["norm"][1:].mean(0).tolist(), abs=1e-4)
    assert torch.tensor(found["local"]["overlap"]).shape == (2, 2)
    assert "foreground" not in found["local"]


def test_maps_are_whole_numbers_up_to_255(seen: Seen) -> None:
    found = torch.tensor(attention.maps(seen))
    assert found.shape == (2, *seen.valid.shape)
    assert (found[:, 0].max(), found[:, 1:].max()) == (255, 255)
    assert found[:, ~seen.valid].sum() == 0
