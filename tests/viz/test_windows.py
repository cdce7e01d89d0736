"""A known object lies where its patches are lit: windows, tiles that are not full, patches that stand for several."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from grids import make_seen
from PIL import Image

from herovlm.geometry import Geometry
from herovlm.types import Kept, Seen
from herovlm.viz import geometry, overlay
from herovlm.viz.figure import KEPT, PICTURE, figure

PATCH = 28  # pixels of a position: 2 x 2 patches of 14
SHAPES: dict[str, Any] = {
    "one window": (1, 1, 6, (0, 0), ((5,), (6,)), False, False),
    "windows": (2, 3, 4, (0, 0), ((4, 2), (4, 4, 1)), False, False),
    "crops": (2, 3, 4, (0, 0), None, True, False),
    "small overview": (2, 2, 4, (0, 0), None, (3, 4), False),
}
OBJECT = (1, 2, 3, 4)  # top, left, bottom, right of a bright rectangle, in patches of the canvas


@pytest.fixture(params=SHAPES)
def seen(request: pytest.FixtureRequest) -> Seen:
    one = make_seen(*SHAPES[request.param])
    return dataclasses.replace(one, grid=dataclasses.replace(one.grid, squeezed=True))


def picture(seen: Seen) -> Image.Image:
    top, left, bottom, right = (PATCH * line for line in OBJECT)
    pixels = np.zeros((PATCH * len(seen.counts.rows), PATCH * len(seen.counts.columns), 3), dtype=np.uint8)
    pixels[top:bottom, left:right] = 255
    return Image.fromarray(pixels)


def brightness(image: Image.Image, box: geometry.Box) -> float:
    left, top = round(box.x), round(box.y)
    part = np.array(image)[top : round(box.y + box.height), left : round(box.x + box.width)]
    return float(part.mean()) / 255


def test_the_patches_that_cover_an_object_are_those_of_its_place(seen: Seen) -> None:
    image, (top, left, bottom, right) = picture(seen), OBJECT
    lit = torch.zeros(seen.valid.shape)
    for tile, patch in seen.valid.nonzero().tolist():
        box = geometry.pixels(image.size, seen.grid, tile, patch, counts=seen.counts)
        lit[tile, patch] = brightness(image, box)
    expected = torch.zeros(seen.grid.tiles[0] * seen.grid.side, seen.grid.tiles[1] * seen.grid.side)
    expected[top:bottom, left:right] = 1
    assert geometry.canvas(lit, seen.grid).equal(expected)
    if seen.grid.overview:  # the same object, small
        whole = seen.grid.whole(lit)
        assert whole.sum() * PATCH**2 * image.width * image.height / seen.counts.room[0] == pytest.approx(
            float(expected.sum()) * PATCH**4, rel=0.05
        )


def test_an_object_is_lit_in_the_drawing_and_nowhere_else(seen: Seen) -> None:
    image, (top, left, bottom, right) = picture(seen), OBJECT
    canvas = torch.zeros(seen.grid.tiles[0] * seen.grid.side, seen.grid.tiles[1] * seen.grid.side, dtype=torch.bool)
    canvas[top:bottom, left:right] = True
    mask = torch.cat([torch.zeros_like(seen.grid.whole(seen.valid)), seen.grid.cut(canvas)])
    panel, *others = overlay.draw(image, seen, Kept(mask, seen.grid.sent), height=40 * canvas.shape[0])
    assert len(others) == seen.grid.lead
    cell, inside = panel.width // canvas.shape[1], np.array(panel)[..., 0] > 250
    for y, x in canvas.nonzero().tolist():  # but for the lines that part the tiles, and the edge of what was resized
        assert inside[y * cell + 4 : (y + 1) * cell - 4, x * cell + 4 : (x + 1) * cell - 4].all()
    drawn = figure(image.size, seen, Kept(mask, seen.grid.sent))
    assert drawn.local is not None
    assert drawn.local.mask.equal(canvas[: drawn.local.height, : drawn.local.width])
    assert drawn.local.mask.sum() == canvas.sum(), "only what fills up the last tiles is left out"


def test_a_patch_lies_in_the_box_of_its_tile(seen: Seen) -> None:
    size = picture(seen).size
    frames = seen.counts.frames(seen.grid)
    for number, (tile, (rows, cols)) in enumerate(zip(Geometry(seen.grid, seen.valid).tiles, frames, strict=True)):
        first, last = (rows[0] * seen.grid.side + cols[0], rows[-1] * seen.grid.side + cols[-1])
        start, end = (geometry.pixels(size, seen.grid, number, at, counts=seen.counts) for at in (first, last))
        found = (start.y, start.x, end.y + end.height, end.x + end.width)
        sides = (size[1], size[0], size[1], size[0])
        assert found == pytest.approx([part * side for part, side in zip(tile.box, sides, strict=True)])


def test_what_has_no_overview_is_told_without_one() -> None:
    one = make_seen(*SHAPES["windows"])
    drawn = figure((9 * PATCH, 6 * PATCH), one, Kept(one.valid, one.grid.sent))
    assert drawn.thumbnail is None
    assert [label.name for label in drawn.labels][::5] == ["tile 1 (row 1, column 1)", "tile 6 (row 2, column 3)"]
    assert drawn.says(PICTURE, "x") == "the picture in 6 local tiles"
    assert "thumbnail" not in drawn.says(KEPT, "hero")


def test_a_squeezed_picture_fills_its_overview_whatever_the_processor_is_thought_to_do() -> None:
    one = make_seen(0, 0, 6)
    grid = dataclasses.replace(one.grid, squeezed=True)
    assert geometry.on_thumbnail((300, 100), grid, "crop", one.counts) == geometry.Box(0, 0, 6, 6)
    assert geometry.on_thumbnail((300, 100), one.grid, "crop", one.counts).width == 18
