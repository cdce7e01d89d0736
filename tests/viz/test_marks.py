"""Marks: a path covers its mask and nothing else; colours rise with the score."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from herovlm.viz import marks


def decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


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


@given(masks())
def test_a_veil_lies_on_the_mask_and_nowhere_else(mask: Tensor) -> None:
    pixels = np.asarray(decode(marks.veil(mask)).convert("RGBA"))
    assert (pixels[..., 3] == 255 * mask.numpy()).all()
    assert (pixels[mask.numpy()] == (0, 0, 0, 255)).all()


def test_heat_rises_with_the_level_and_nan_is_clear() -> None:
    levels = torch.linspace(0, 1, 40).view(5, 8)
    levels[:, 0] = torch.nan
    pixels = np.asarray(decode(marks.heat(levels)).convert("RGBA"))
    assert pixels.shape == (5, 8, 4)
    assert (pixels[..., 3] == 255 * levels.isfinite().numpy()).all()
    bright = np.asarray(decode(marks.heat(levels)).convert("RGB").convert("L")).astype(int)[levels.isfinite().numpy()]
    assert (np.diff(bright) >= 0).all()
    assert bright[-1] - bright[0] > 150


def test_the_ends_of_the_ramp_are_its_first_and_last_colour() -> None:
    assert marks.ramp(torch.tensor([0.0, 1.0])).tolist() == [list(marks.RAMP[0]), list(marks.RAMP[-1])]


def test_a_small_picture_is_stored_without_loss() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8))
    assert decode(marks.photo(image)).tobytes() == image.tobytes()


def test_a_large_picture_is_stored_small_and_left_as_it_was() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (1200, 2400, 3), dtype=np.uint8))
    uri = marks.photo(image)
    assert uri.startswith("data:image/jpeg")
    assert decode(uri).size == (1600, 800)
    assert image.size == (2400, 1200)
