"""How many patches a map asks for, and which."""

from __future__ import annotations

import math

import pytest
import torch

from herovlm.ops import pyramid
from herovlm.ops.contrast import BARRED, contrasted


@pytest.mark.parametrize(("steepness", "share"), [(0.5, 0.876), (1.0, 0.849), (2.5, 0.759), (7.0, 0.496)])
def test_the_share_falls_with_lambda(steepness: float, share: float) -> None:
    assert pyramid.proportion(0.9, steepness) == pytest.approx(share, abs=5e-4)


def test_the_share_of_lambda_0_is_its_limit_and_has_ends() -> None:
    assert pyramid.proportion(0.6, 0.0) == pytest.approx(pyramid.proportion(0.6, 1e-7), abs=1e-6)
    assert pyramid.proportion(0.0, 1.0) == 0.1
    assert pyramid.proportion(1.0, 3.0) == pyramid.proportion(1.2, 3.0) == 1.0


@pytest.mark.parametrize("sides", [(4, 6), (1, 5), (3, 1)])
def test_an_even_map_asks_for_everything(sides: tuple[int, int]) -> None:
    asked = pyramid.asked(torch.full(sides, 0.3), 1.0)
    assert asked.mask.all()
    assert sides[1] == 1 or asked.entropy == pytest.approx(1.0, abs=1e-6)


def test_a_gathered_map_asks_for_its_best_cells() -> None:
    heat = torch.full((10, 10), 1e-6)
    heat[:, 3] = torch.arange(1.0, 11.0)
    asked = pyramid.asked(heat, 1.0)
    assert asked.entropy < 0.01
    assert asked.share == 0.1
    assert torch.equal(asked.mask, heat >= 1.0)


def test_cells_as_good_as_the_last_come_along() -> None:
    heat = torch.eye(4).repeat_interleave(2, 0).repeat_interleave(2, 1) + 0.01
    asked = pyramid.asked(heat, 30.0)
    assert int(heat.numel() * asked.share) < int(asked.mask.sum())
    assert torch.equal(asked.mask, heat > 1), "whole blocks of the coarser stage"


def test_entropy_is_that_of_rows_not_of_the_map() -> None:
    heat = torch.tensor([[1.0, 1.0], [100.0, 100.0]])
    assert pyramid.asked(heat, 1.0).entropy == pytest.approx(1.0)
    heat = torch.tensor([[1.0, 1.0], [1e4, 1e-4]])
    assert pyramid.asked(heat, 1.0).entropy == pytest.approx(0.5, abs=1e-4)


def test_weights_leave_the_first_token_out() -> None:
    rows = torch.rand(3, 2, 6, generator=torch.Generator().manual_seed(0))
    rows[:, 1, :2] = 0  # padding
    found = pyramid.weights(rows, torch.tensor([0, 2]))
    assert torch.allclose(found.sum(1), torch.ones(2))
    assert found[0, 0] == found[1, 2] == 0
    other = rows.clone()
    other[:, 0, 0] = 5
    assert torch.allclose(pyramid.weights(other, torch.tensor([0, 2])), found)


def test_a_stage_counts_four_times_as_much_as_the_one_before() -> None:
    mixed = [torch.eye(4), torch.eye(4)]
    masks = [torch.ones(4, 4, dtype=torch.bool)] * 2
    weight = [torch.tensor([1.0, 0, 0, 0]), torch.tensor([0, 0, 0, 2.0])]
    heat = pyramid.heat(weight, mixed, masks, [(2, 2), (2, 2)], -1)
    assert torch.equal(heat[:2, :2], torch.full((2, 2), 4.0))
    assert torch.equal(heat[2:, 2:], torch.full((2, 2), 16.0))
    assert heat.sum() == 4 * 4 + 4 * 16


def test_a_map_counts_only_where_its_stage_was_read() -> None:
    mixed, mask = torch.full((4, 4), 0.25), torch.zeros(4, 4, dtype=torch.bool)
    mask[:2, :2] = True
    heat = pyramid.heat([torch.tensor([3.0])], [mixed], [mask], [(2, 2)], -2)
    assert torch.equal(heat, mask.float())


@pytest.mark.parametrize("fine", [(8, 8), (8, 16), (6, 12), (20, 8), (5, 13)])
@pytest.mark.parametrize("coarse", [2, 4, 8])
def test_what_a_block_asks_for_is_never_nothing(fine: tuple[int, int], coarse: int) -> None:
    for cell in range(coarse**2):
        grid = torch.zeros(coarse, coarse, dtype=torch.bool)
        grid.view(-1)[cell] = True
        mask = pyramid.resized(grid, fine)
        assert not mask.any() or len(pyramid.kept(mask, (2 * coarse, 2 * coarse)))


def test_only_the_likeliest_of_the_best_stage_can_be_said() -> None:
    logits = torch.zeros(2, 1, 50)
    logits[1, 0] = torch.arange(50.0)
    logits[0, 0, :40] = -1e3  # what the poorer view rules out is pushed up
    found = contrasted(logits, (1.0,), 20)[0]
    assert (found > BARRED).nonzero().flatten().tolist() == list(range(30, 50))
    assert int(found.argmax()) == 39
    assert math.isfinite(float(found.max()))
