"""Marks: a path covers its mask and nothing else; colours rise with the score."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from herovlm.viz import marks


def decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def luminance(uri: str) -> np.ndarray:
    return np.asarray(decode(uri).convert("L")).astype(int)


@st.composite
def masks(draw: st.DrawFn) -> Tensor:
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    row = st.lists(st.booleans(), min_size=width, max_size=width)
    return torch.tensor(draw(st.lists(row, min_size=height, max_size=height)))


@given(masks())
def test_cells_cover_the_mask_once_and_nothing_else(mask: Tensor) -> None:
    painted = torch.zeros(mask.shape, dtype=torch.int64)
    for x, y, n, back in re.findall(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z", path := marks.cells(mask)):
        assert n == back
        painted[int(y), int(x) : int(x) + int(n)] += 1
    assert torch.equal(painted, mask.long())
    assert len(re.sub(r"M\d+ \d+h\d+v1h-\d+z", "", path)) == 0


@given(masks())
def test_the_outline_parts_kept_cells_from_the_rest(mask: Tensor) -> None:
    edges = set()
    for x, y, way, n in re.findall(r"M(\d+) (\d+)([hv])(\d+)", marks.outline(mask)):
        for i in range(int(n)):
            edges.add((int(x) + i, int(y), "h") if way == "h" else (int(x), int(y) + i, "v"))
    height, width = mask.shape
    inside = {(x, y) for y in range(height) for x in range(width) if mask[y, x]}
    corners = [(x, y) for x in range(width + 1) for y in range(height + 1)]
    across = {(x, y, "h") for x, y in corners if ((x, y) in inside) != ((x, y - 1) in inside)}
    steep = {(x, y, "v") for x, y in corners if ((x, y) in inside) != ((x - 1, y) in inside)}
    assert edges == across | steep


def test_heat_rises_with_the_score_and_hides_what_is_not_shown() -> None:
    values = torch.linspace(-3, 5, 40).view(5, 8)
    shown = torch.ones(5, 8, dtype=torch.bool)
    shown[:, 0] = False
    uri = marks.heat(values, shown)
    assert decode(uri).size == (8, 5)
    assert (np.asarray(decode(uri))[..., 3] > 0).tolist() == shown.tolist()
    bright = luminance(uri)[shown.numpy()]
    assert (np.diff(bright) >= 0).all()
    assert bright[-1] - bright[0] > 150


def test_one_outlier_does_not_flatten_the_rest() -> None:
    values = torch.linspace(0, 1, 400).view(20, 20)
    plain = luminance(marks.heat(values, torch.ones(20, 20, dtype=torch.bool)))
    values[0, 0] = 1e9
    bright = luminance(marks.heat(values, torch.ones(20, 20, dtype=torch.bool)))
    assert np.abs(bright - plain).ravel()[1:].max() < 10


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_no_number_are_left_blank(bad: float) -> None:
    values = torch.tensor([[bad, 0.0, 1.0]])
    alpha = np.asarray(decode(marks.heat(values, torch.ones(1, 3, dtype=torch.bool))))[..., 3]
    assert alpha.tolist() == [[0, 255, 255]]


def test_equal_scores_and_no_scores_draw() -> None:
    assert decode(marks.heat(torch.ones(2, 2), torch.ones(2, 2, dtype=torch.bool))).size == (2, 2)
    assert decode(marks.heat(torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.bool))).size == (2, 2)


def test_a_small_picture_is_stored_without_loss() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8))
    assert decode(marks.photo(image)).tobytes() == image.tobytes()


def test_a_large_picture_is_stored_small_and_left_as_it_was() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (1200, 2400, 3), dtype=np.uint8))
    uri = marks.photo(image)
    assert uri.startswith("data:image/jpeg")
    assert decode(uri).size == (1600, 800)
    assert image.size == (2400, 1200)
