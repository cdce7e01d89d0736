"""Regions of interest: reading, making sound, and the best square."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from herovlm.ops import region

BOX = (0.1, 0.2, 0.5, 0.8)


@pytest.mark.parametrize(
    "text",
    [
        "[0.1, 0.2, 0.5, 0.8]",
        "[0.1,0.2,0.5,0.8]",
        " (0.1 0.2 0.5 0.8).",
        "0.1, 0.2, 0.5, 0.8",
        "[1e-1, 2E-1, 5e-01, .8]",
        "[0.1, 0.2, 0.5, 0.8, 0.9, 7]",
        "The 2 regions are [0.1, 0.2, 0.5, 0.8] and [0, 0, 1, 1].",
        "see [1]: [0.1; 0.2; 0.5; 0.8]",
    ],
)
def test_a_box_is_read_however_it_is_written(text: str) -> None:
    assert region.read(text) == BOX


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "]]][[[",
        "on the left",
        "[0.1, 0.2, 0.5]",
        "[0.1, 0.2, 0.5",
        "[nan, 0.1, 0.2, 0.3, 0.4]",
        "[0.1, 0.1, inf, 0.6]",
        "[1e999, 0, 1, 1]",
        "[a, b, c, d]",
        "[" * 2000,
    ],
)
def test_what_is_no_box_is_the_whole_picture(text: str) -> None:
    box = region.read(text)
    assert box is None
    assert region.sound(box) == region.WHOLE


@pytest.mark.parametrize(
    "box", [(0.1, 0.2, 0.5, 0.8), (0.5, 0.8, 0.1, 0.2), (0.5, 0.2, 0.1, 0.8), (0.1, 0.8, 0.5, 0.2)]
)
def test_corners_are_put_in_order(box: region.Box) -> None:
    assert region.sound(box) == BOX


@given(st.tuples(*[st.floats(-5, 5)] * 4), st.floats(0, 1))
def test_a_sound_box_lies_in_the_square_and_has_its_least_side(box: region.Box, least: float) -> None:
    left, top, right, bottom = region.sound(box, least)
    assert 0 <= left <= right <= 1
    assert 0 <= top <= bottom <= 1
    assert min(right - left, bottom - top) >= least - 1e-9


def test_a_box_beyond_the_square_is_the_whole_square_and_one_over_its_edge_ends_there() -> None:
    assert region.sound((1.2, 0.1, 1.9, 0.5)) == region.WHOLE
    assert region.sound((10.0, 20.0, 50.0, 60.0)) == region.WHOLE
    assert region.sound((-0.5, 0.25, 0.5, 2.0)) == (0.0, 0.25, 0.5, 1.0)


def test_a_sound_box_stays_as_it_is() -> None:
    assert region.sound(BOX, 0.3) == pytest.approx(BOX)
    assert region.sound(region.WHOLE, 1.0) == region.WHOLE


def test_pixels_are_rounded_halves_to_even_and_text_has_three_places() -> None:
    assert region.pixels((0.0625, 0.3125, 0.5625, 1.0), 40) == (2, 12, 22, 40)
    assert region.text((0.0625, 0.125, 1 / 3, 1.0)) == "[0.062, 0.125, 0.333, 1.0]"


def test_overlap_is_intersection_over_union() -> None:
    assert region.overlap(BOX, BOX) == pytest.approx(1)
    assert region.overlap((0, 0, 0.5, 1), (0.25, 0, 0.75, 1)) == pytest.approx(1 / 3)
    assert region.overlap((0, 0, 0.2, 0.2), (0.5, 0.5, 1, 1)) == 0
    assert region.overlap((0.1, 0.1, 0.1, 0.1), (0.1, 0.1, 0.1, 0.1)) == 0


@pytest.mark.parametrize("unit", [1, 2, 3, 9])
def test_the_best_square_is_that_of_all_squares(unit: int) -> None:
    weights = torch.rand(5, 7, generator=torch.Generator().manual_seed(unit)) ** 4
    row, column, side = region.densest(weights, unit)
    excess = (weights - weights.mean()).double()
    sides = [size for size in range(1, 6) if size % unit == 0] or [5]
    every = {
        (y, x, size): excess[y : y + size, x : x + size].sum().item()
        for size in sides
        for y in range(6 - size)
        for x in range(8 - size)
    }
    assert every[row, column, side] == pytest.approx(max(every.values()), abs=1e-6)


def test_the_best_square_holds_the_weight_and_no_more() -> None:
    weights = torch.zeros(8, 8)
    weights[2:4, 5:7] = 1.0
    assert region.densest(weights) == (2, 5, 2)
    assert region.densest(torch.ones(4, 6)) == (0, 0, 1)
