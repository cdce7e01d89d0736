"""Geometry: a patch lies on the picture where the real image processor took it from."""

from __future__ import annotations

import pytest
import torch
from grids import make_grid
from PIL import Image
from torch import Tensor
from transformers import LlavaImageProcessorPil, LlavaNextImageProcessorPil

from herovlm.errors import InputsError
from herovlm.viz import geometry

TILE, PATCH = 96, 8
SIDE = TILE // PATCH
SQUARE = {"height": TILE, "width": TILE}
PINPOINTS = [[TILE * rows, TILE * cols] for rows, cols in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))]
PLAIN = {"do_normalize": False, "do_rescale": False}
# width, height of the picture -> rows, columns of tiles; the object is a red box on black
SIZES = {
    (400, 400): (2, 2),  # no padding
    (400, 300): (2, 2),  # padding above and below
    (300, 400): (2, 2),  # padding left and right
    (600, 200): (1, 3),
    (700, 160): (1, 3),
    (150, 640): (3, 1),
    (90, 50): (1, 2),  # enlarged
}
OBJECTS = [(0.0, 0.0, 0.3, 0.2), (0.45, 0.4, 0.7, 0.95), (0.85, 0.1, 1.0, 1.0)]  # shares of the picture


def draw(size: tuple[int, int], share: tuple[float, float, float, float]) -> tuple[Image.Image, tuple[int, ...]]:
    box = tuple(round(x * size[i % 2]) for i, x in enumerate(share))
    image = Image.new("RGB", size)
    image.paste((255, 0, 0), box)
    return image, box


def lit(tiles: Tensor) -> Tensor:
    """Share of red in each patch of tiles (T, 3, h, w): (T, N)."""
    red = tiles[:, 0].float() / 255
    return red.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).mean((-1, -2)).flatten(1)


def covered(size: tuple[int, int], grid: object, box: tuple[int, ...], tiles: int, fit: str) -> Tensor:
    """Share of each patch that the object covers, as the geometry has it: (T, N)."""
    shares = torch.zeros(tiles, SIDE * SIDE)
    for tile in range(tiles):
        for patch in range(SIDE * SIDE):
            b = geometry.pixels(size, grid, tile, patch, fit)
            wide = min(b.x + b.width, box[2]) - max(b.x, box[0])
            high = min(b.y + b.height, box[3]) - max(b.y, box[1])
            shares[tile, patch] = max(wide, 0) * max(high, 0) / (b.width * b.height)
    return shares


@pytest.mark.parametrize("share", OBJECTS)
@pytest.mark.parametrize("size", SIZES)
def test_an_object_lights_the_patches_that_the_processor_put_it_in(
    size: tuple[int, int], share: tuple[float, float, float, float]
) -> None:
    image, box = draw(size, share)
    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": TILE}, crop_size=SQUARE, image_grid_pinpoints=PINPOINTS, **PLAIN
    )
    tiles = processor(image, return_tensors="pt")["pixel_values"][0]
    grid = make_grid(*SIZES[size], SIDE)
    expected = covered(size, grid, box, len(tiles), "squeeze")
    assert (lit(tiles) - expected).abs().max() < 0.2  # resampling and whole pixels blur the edges
    assert (lit(tiles) - expected).abs().mean() < 0.01


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("size", [(400, 300), (120, 300), (300, 300)])
def test_a_single_tile_is_cropped_or_padded(size: tuple[int, int], fit: str) -> None:
    image, box = draw(size, OBJECTS[1])
    processor = LlavaImageProcessorPil(
        size={"shortest_edge": TILE}, crop_size=SQUARE, do_pad=fit == "pad", image_mean=[0, 0, 0], **PLAIN
    )
    tiles = processor(image, return_tensors="pt")["pixel_values"]
    expected = covered(size, make_grid(0, 0, SIDE), box, 1, fit)
    assert (lit(tiles) - expected).abs().max() < 0.2
    assert (lit(tiles) - expected).abs().mean() < 0.01


@pytest.mark.parametrize("size", SIZES)
def test_the_picture_fits_the_canvas_whole_and_centred(size: tuple[int, int]) -> None:
    grid = make_grid(*SIZES[size], SIDE)
    high, wide = SIZES[size][0] * SIDE, SIZES[size][1] * SIDE
    box = geometry.on_canvas(size, grid)
    assert min(box.x, box.y) == pytest.approx(0)
    assert box.x * 2 + box.width == pytest.approx(wide)
    assert box.y * 2 + box.height == pytest.approx(high)
    assert box.width / box.height == pytest.approx(size[0] / size[1])


def test_the_canvas_lays_tiles_side_by_side_in_raster_order() -> None:
    grid = make_grid(2, 3, 2)
    tile = torch.arange(7)[:, None].expand(7, 4)
    patch = torch.arange(4).expand(7, 4)
    top, bottom = [1, 1, 2, 2, 3, 3], [4, 4, 5, 5, 6, 6]
    assert geometry.canvas(tile, grid).tolist() == [top, top, bottom, bottom]
    assert geometry.canvas(patch, grid)[:2].tolist() == [[0, 1] * 3, [2, 3] * 3]
    assert geometry.thumbnail(4 * tile + patch, grid).tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize("lay", [geometry.canvas, geometry.thumbnail])
def test_values_of_another_grid_are_refused(lay: object) -> None:
    with pytest.raises(InputsError, match=r"\(5, 9\).*\(5, 4\)"):
        lay(torch.zeros(5, 9), make_grid(2, 2, 2))
