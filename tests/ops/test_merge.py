from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from herovlm.ops import merge
from herovlm.ops.spread import evenly


@st.composite
def tiles(draw: st.DrawFn) -> torch.Tensor:
    side = draw(st.integers(1, 8))
    if draw(st.booleans()):  # what un-padding leaves is a rectangle
        valid = torch.zeros(side, side, dtype=torch.bool)
        top, left = draw(st.integers(0, side - 1)), draw(st.integers(0, side - 1))
        valid[top : draw(st.integers(top, side)), left : draw(st.integers(left, side))] = True
        return valid
    return torch.tensor(draw(st.lists(st.booleans(), min_size=side**2, max_size=side**2))).view(side, side)


@given(tiles(), st.data())
def test_an_average_gives_every_valid_patch_one_vote(valid: torch.Tensor, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, int(valid.sum())))
    side = len(valid)
    mask = evenly(valid.view(1, -1), torch.tensor([count]))
    one = torch.ones(1, side**2, 1, dtype=torch.float64)
    if not count:
        return
    assert merge.average(one, valid.view(1, -1), mask, side, [count]).allclose(
        torch.ones(count, 1, dtype=torch.float64)
    )
    features = torch.randn(1, side**2, 3, generator=torch.Generator().manual_seed(0))
    merged = merge.average(features, valid.view(1, -1), mask, side, [count])
    inside = features[0, valid.flatten()]
    assert (merged <= inside.amax(0) + 1e-6).all()
    assert (merged >= inside.amin(0) - 1e-6).all()


def test_keeping_every_patch_changes_nothing() -> None:
    features = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[1, 6:] = False
    assert merge.average(features, valid, valid, 3, [9, 6]).equal(features[valid])


def test_a_cell_is_the_mean_of_its_patches_and_padding_has_no_say() -> None:
    features = torch.tensor([[1.0, 3.0, 5.0, 700.0]]).view(1, 4, 1)
    valid = torch.tensor([[True, True, True, False]])
    mask = torch.tensor([[True, False, False, False]])
    assert merge.average(features, valid, mask, 2, [1]).tolist() == [[3.0]]


def test_bfloat16_goes_in_and_out() -> None:
    features = torch.ones(1, 4, 2, dtype=torch.bfloat16)
    valid = torch.ones(1, 4, dtype=torch.bool)
    assert merge.average(features, valid, valid, 2, [4]).dtype == torch.bfloat16


def test_by_likeness_averages_what_points_the_same_way_in_its_own_tile() -> None:
    turn = torch.tensor([[0.0, 10, 80, 90], [100.0, 0, 20, 0]]).deg2rad()
    features = torch.stack([turn.cos(), turn.sin()], -1) * torch.tensor([1.0, 2, 3, 4])[:, None]
    mask = torch.tensor([[True, False, False, True], [True, False, False, False]])
    valid = torch.tensor([[True] * 4, [True, True, True, False]])
    merged = merge.by_likeness(features, valid, mask, mask.sum(1).tolist())
    want = [features[0, :2].mean(0), features[0, 2:].mean(0), features[1, :3].mean(0)]
    torch.testing.assert_close(merged, torch.stack(want))
    assert merge.by_likeness(features.half(), valid, mask, mask.sum(1).tolist()).dtype is torch.float16


def test_owners_are_kept_patches_or_the_centres_among_them() -> None:
    features = torch.eye(4)[[0, 0, 1, 1]][None] + 0.1
    mask = torch.tensor([[True, False, True, False]])
    every = torch.ones_like(mask)
    assert merge.owners(features, every, mask, mask, [2]).tolist() == [[0, 0, 2, 2]]
    only = torch.tensor([[True, False, False, False]])
    assert merge.owners(features, every, mask, only, [1]).tolist() == [[0, 0, 2, 0]]
    assert merge.owners(features, mask, mask, mask, [2]).tolist() == [[0, -1, 2, -1]]
    assert merge.owners(features, every, ~every, ~every, [0]).tolist() == [[-1] * 4]
