"""A known object in a picture is what is lit, in every drawing: pixels of the PNG, pixels of the page.

The truth is the real image processor: a patch shows the object where the pixels that the tower gets are red.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pytest
import torch
from grids import make_grid
from PIL import Image
from torch import Tensor
from transformers import LlavaImageProcessorPil, LlavaNextImageProcessorPil
from tree import need_demo_model

import herovlm
from herovlm.demo import scenes
from herovlm.types import Kept, Seen, Short
from herovlm.viz import geometry, overlay

TILE, PATCH = 96, 8
SIDE = TILE // PATCH
SQUARE = {"height": TILE, "width": TILE}
PINPOINTS = [[TILE * rows, TILE * cols] for rows, cols in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))]
PLAIN = {"do_normalize": False, "do_rescale": False}
SIZES = {  # square, wide, tall, odd, small
    (384, 384): (2, 2),
    (384, 288): (2, 2),
    (251, 373): (2, 2),
    (600, 200): (1, 3),
    (700, 161): (1, 3),
    (150, 640): (3, 1),
    (91, 53): (1, 2),
}
BOXES = [(0.0, 0.3, 0.3, 0.7), (0.45, 0.4, 0.7, 0.95), (0.8, 0.1, 1.0, 0.6)]  # shares of the picture
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Case:
    """A white picture with one red box, and the patches that show it."""

    image: Image.Image
    box: tuple[int, ...]
    seen: Seen
    kept: Kept
    fit: str = "squeeze"


def picture(size: tuple[int, int], share: Box) -> tuple[Image.Image, tuple[int, ...]]:
    box = tuple(round(x * size[i % 2]) for i, x in enumerate(share))
    image = Image.new("RGB", size, "white")
    image.paste((255, 0, 0), box)
    return image, box


def case(image: Image.Image, box: tuple[int, ...], tiles: Tensor, grid: tuple[int, int], fit: str = "squeeze") -> Case:
    """Keep exactly the patches whose pixels (T, 3, h, w) hold red."""
    red, green = (part.float() for part in (tiles[:, 0], tiles[:, 1]))
    shows = (red - green).unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).amax((-1, -2)).flatten(1) > 64
    lit = red.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).amax((-1, -2)).flatten(1) > 0  # padding is black
    seen = Seen(make_grid(*grid, SIDE, newlines=False), lit)
    return Case(image, box, seen, Kept(shows, seen.grid.sent), fit)


def next_case(size: tuple[int, int], share: Box) -> Case:
    image, box = picture(size, share)
    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": TILE}, crop_size=SQUARE, image_grid_pinpoints=PINPOINTS, **PLAIN
    )
    return case(image, box, processor(image, return_tensors="pt")["pixel_values"][0], SIZES[size])


def one_tile_case(size: tuple[int, int], share: Box, fit: str) -> Case:
    image, box = picture(size, share)
    processor = LlavaImageProcessorPil(
        size={"shortest_edge": TILE}, crop_size=SQUARE, do_pad=fit == "pad", image_mean=[0, 0, 0], **PLAIN
    )
    return case(image, box, processor(image, return_tensors="pt")["pixel_values"], (0, 0), fit)


def show(c: Case) -> herovlm.viz.show.Shown:
    return herovlm.show(Short({}, (c.seen,), (c.kept,)), c.image, fit=c.fit if c.fit != "squeeze" else None)


def png(c: Case) -> list[np.ndarray]:
    """The panels of the matplotlib drawing, as RGB."""
    drawn = show(c).figure(width=8)
    store = io.BytesIO()
    drawn.savefig(store, format="png", dpi=100)
    whole = Image.open(store).convert("RGB")
    panels = []
    for axes in drawn.axes:
        left, bottom, width, height = axes.get_position().bounds
        edges = (left, 1 - bottom - height, left + width, 1 - bottom)
        panels.append(np.asarray(whole.crop([round(x * whole.size[i % 2]) for i, x in enumerate(edges)])))
    return panels


def page(c: Case) -> list[np.ndarray]:
    """The panels of the first view of the page, drawn by the numbers in its HTML."""
    html = show(c)._repr_html_()
    photo = decode(re.search(r'<symbol[^>]*><image [^>]*href="([^"]+)"', html)[1])
    panels = []
    for found in re.finditer(r'<svg width="(\d+)" height="(\d+)" overflow="hidden">.*?<use ([^>]+)/>', html):
        width, height = int(found[1]), int(found[2])
        x, y, w, h = (float(re.search(rf'\b{name}="([^"]+)"', found[3])[1]) for name in ("x", "y", "width", "height"))
        cell = 20
        panel = Image.new("RGB", (width * cell, height * cell), (200, 200, 200))
        panel.paste(photo.resize((round(w * cell), round(h * cell))), (round(x * cell), round(y * cell)))
        panels.append(panel)
    veils = [decode(uri) for uri in re.findall(r'<image class="veil"[^>]*href="([^"]+)"', html)]
    for panel, veil in zip(panels, veils, strict=True):
        mask = veil.convert("RGBA").getchannel("A").resize(panel.size, Image.Resampling.NEAREST)
        panel.paste(Image.blend(panel, Image.new("RGB", panel.size), 0.76), (0, 0), mask)
    return [np.asarray(panel) for panel in panels]


def pillow(c: Case) -> list[np.ndarray]:
    """The plain pictures."""
    return [np.asarray(panel) for panel in overlay.draw(c.image, c.seen, c.kept, height=480, fit=c.fit)]


def decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def check(c: Case, panels: list[np.ndarray]) -> int:
    """The object is bright red wherever it lies; bright white is nowhere but within a patch of it.

    Returns on how many panels it was seen: on one, it may be too small, or below the number of its tile.
    """
    grid = c.seen.grid
    boxes = [geometry.on_thumbnail(c.image.size, grid, c.fit)]
    spans = [(grid.side, grid.side)]
    if any(grid.tiles):
        boxes.insert(0, geometry.on_canvas(c.image.size, grid))
        spans.insert(0, (grid.tiles[1] * grid.side, grid.tiles[0] * grid.side))
    assert len(panels) == len(boxes)
    found = 0
    for panel, place, (wide, high) in zip(panels, boxes, spans, strict=True):
        cell = panel.shape[1] / wide, panel.shape[0] / high  # pixels a patch
        ratio = place.width / c.image.width, place.height / c.image.height
        at = [((place.x, place.y)[i % 2] + x * ratio[i % 2]) * cell[i % 2] for i, x in enumerate(c.box)]
        rows, cols = (np.arange(n) + 0.5 for n in panel.shape[:2])
        free = ~written(rows, cols, cell, grid.side)
        inside = near(rows, cols, at, (-1.5, -1.5)) & free
        reach = near(rows, cols, at, (cell[0] + 2, cell[1] + 2))
        red = (panel[..., 0] > 200) & (panel[..., 1] < 90) & (panel[..., 2] < 90)
        white = (panel > 225).all(-1)
        if inside.any():
            assert red[inside].mean() > 0.93  # the edge of the kept patches is drawn over some of it
            assert white[reach].any()
            found += 1
        assert not (white | red)[~reach & free].any()
    return found


def near(rows: np.ndarray, cols: np.ndarray, box: list[float], by: tuple[float, float]) -> np.ndarray:
    left, top, right, bottom = box
    across = (cols > left - by[0]) & (cols < right + by[0])
    return ((rows > top - by[1]) & (rows < bottom + by[1]))[:, None] & across[None]


def written(rows: np.ndarray, cols: np.ndarray, cell: tuple[float, float], side: int) -> np.ndarray:
    """The corner of each tile with its number, and the lines that part tiles."""
    x, y = (cols / cell[0]) % side, (rows / cell[1]) % side
    line = [(at * step < 4) | ((side - at) * step < 4) for at, step in ((x, cell[0]), (y, cell[1]))]
    return (y < 0.35 * side)[:, None] & (x < 0.4 * side)[None] | line[1][:, None] | line[0][None]


DRAWINGS = pytest.mark.parametrize("draw", [png, page, pillow])


@DRAWINGS
@pytest.mark.parametrize(("size", "share"), [*zip(SIZES, cycle(BOXES))])
def test_the_object_is_lit_on_tiles_and_thumbnail(
    size: tuple[int, int], share: Box, draw: Callable[[Case], list[np.ndarray]]
) -> None:
    c = next_case(size, share)
    assert check(c, draw(c)) == 2


@DRAWINGS
@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("size", [(400, 300), (120, 300), (301, 299)])
def test_the_object_is_lit_on_a_single_tile(
    size: tuple[int, int], fit: str, draw: Callable[[Case], list[np.ndarray]]
) -> None:
    c = one_tile_case(size, BOXES[1], fit)
    assert check(c, draw(c)) == 1


@pytest.mark.parametrize("size", [(384, 288), (576, 192), (192, 480)])
def test_an_item_of_a_scene_is_where_the_demo_model_saw_it(size: tuple[int, int]) -> None:
    """The family's own record of validity; only the item's card is lit, and all of it."""
    need_demo_model()
    from herovlm.demo import load

    model, processor = load()
    scene = scenes.make(3, size=size)
    inputs = processor(images=scene.image, text="USER: <image>\nHi? ASSISTANT:", return_tensors="pt")
    (seen,) = herovlm.drop(model, inputs, method="random", keep=0.5).seen
    for item in scene.items[:2]:
        image = Image.new("RGB", size, "white")
        image.paste((255, 0, 0), item.icon_box)
        tiles = processor(images=image, text="<image>", return_tensors="pt")["pixel_values"][0]
        side = tiles.shape[-1] // seen.grid.side
        shows = (tiles[:, 0] - tiles[:, 1]).unfold(1, side, side).unfold(2, side, side).amax((-1, -2)).flatten(1) > 0.5
        c = Case(image, item.icon_box, seen, Kept(shows & seen.valid, torch.zeros_like(seen.grid.sent)))
        assert check(c, png(c)) > 0
        assert check(c, page(c)) > 0
