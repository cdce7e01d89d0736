"""Heat: a scale that means what is written at its ends."""

from __future__ import annotations

import pytest
import torch

from herovlm.viz.heat import heat

ALL = torch.ones(20, 20, dtype=torch.bool)


def test_levels_keep_the_order_of_the_values() -> None:
    values = torch.randn(20, 20, generator=torch.Generator().manual_seed(0))
    levels = heat(values, ALL, "patch").levels.flatten()[values.flatten().argsort()]
    assert (levels.diff() >= 0).all()
    assert (levels.min(), levels.max()) == (0, 1)


def test_one_outlier_does_not_flatten_the_rest_and_is_told() -> None:
    values = torch.linspace(0, 1, 400).view(20, 20)
    plain = heat(values, ALL, "patch")
    values = values.clone()
    values[0, 0] = 1e9
    scale = heat(values, ALL, "patch")
    assert (scale.levels - plain.levels).abs().flatten()[1:].max() < 0.03
    assert scale.range[1].startswith("≥ ")
    assert scale.high < 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("each", ["patch", "tile", "group"])
def test_what_is_no_number_is_left_blank(bad: float, each: str) -> None:
    levels = heat(torch.tensor([[bad, 0.0, 1.0]]), torch.ones(1, 3, dtype=torch.bool), each).levels
    assert levels.isfinite().tolist() == [[False, True, True]]


def test_padding_is_left_blank_and_does_not_count() -> None:
    valid = torch.tensor([[True, True, False]])
    scale = heat(torch.tensor([[1.0, 3.0, 99.0]]), valid, "tile")
    assert scale.levels.isfinite().equal(valid)
    assert scale.range == ("0", "3")


def test_tiles_that_weigh_nearly_the_same_look_nearly_the_same() -> None:
    levels = heat(torch.tensor([[0.24, 0.25, 0.26]]), torch.ones(1, 3, dtype=torch.bool), "tile").levels
    assert levels.max() - levels.min() < 0.1


@pytest.mark.parametrize("each", ["patch", "tile", "group"])
def test_equal_scores_and_no_scores_have_a_scale(each: str) -> None:
    assert heat(torch.ones(2, 2), torch.ones(2, 2, dtype=torch.bool), each).levels.isfinite().all()
    assert heat(torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.bool), each).levels.isnan().all()


def test_groups_are_told_apart() -> None:
    groups = torch.arange(12).view(3, 4)
    scale = heat(groups.float(), torch.ones(3, 4, dtype=torch.bool), "group")
    assert scale.groups == 12
    levels = scale.levels.flatten()
    assert (levels[1:] - levels[:-1]).abs().min() > 0.3  # neighbours by number
    assert (levels.sort().values.diff() > 0.02).all()
