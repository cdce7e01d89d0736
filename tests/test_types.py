from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_grid, make_seen

from herovlm.types import Kept, Short


def test_counts_include_newlines() -> None:
    seen = make_seen(2, 2, 3, (1, 0))
    assert seen.positions == 9 + 4 * 6 + 4
    kept = Kept(seen.valid & (torch.arange(9) < 4), torch.tensor([True, False, True, False, False, False]))
    assert kept.granted.tolist() == [4, 1, 1, 4, 4]
    assert kept.positions == 14 + 2


def test_the_grid_of_the_tests_lays_out_every_slot_once() -> None:
    grid = make_grid(1, 2, 2)
    assert grid.order.tolist() == [0, 1, 2, 3, 4, 5, 8, 9, -1, 6, 7, 10, 11, -2]
    assert grid.row.tolist() == [[-1] * 4, [0, 0, 1, 1], [0, 0, 1, 1]]
    assert grid.rows == 2


def test_records_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_seen(1, 1, 2).depth = 3  # type: ignore[misc]


def test_short_is_a_mapping_for_generate() -> None:
    short = Short({"input_ids": 1, "attention_mask": 2}, (), ())
    assert dict(**short) == {"input_ids": 1, "attention_mask": 2}
    assert (len(short), list(short), short["input_ids"]) == (2, ["input_ids", "attention_mask"], 1)
