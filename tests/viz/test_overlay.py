"""The overlay: kept patches are as bright as the picture, dropped ones dark, padding plain."""

from __future__ import annotations

import pytest
import torch
from grids import make_seen
from PIL import Image

from herovlm.types import Kept
from herovlm.viz import geometry, overlay


def test_each_patch_has_the_brightness_of_its_fate() -> None:
    seen = make_seen(2, 2, 4, (1, 0))
    mask = torch.zeros_like(seen.valid)
    mask[0, 7] = mask[1, 6] = mask[4, 1] = True
    image = overlay.draw(Image.new("RGB", (400, 380), "white"), seen, Kept(mask, seen.grid.sent), height=320)
    cell = 320 // 8
    lit, valid = geometry.canvas(mask, seen.grid), geometry.canvas(seen.valid, seen.grid)
    for row in range(8):
        for col in range(8):
            if row % 4 or col % 4:  # the corner of a tile holds its number
                pixel = image.getpixel((col * cell + cell // 2, row * cell + cell // 2))
                expected = (255, 255, 255) if lit[row, col] else overlay.PADDING if not valid[row, col] else None
                assert pixel == expected if expected else max(pixel) < 100
    thumbnail = image.crop((10 * cell, 0, 14 * cell, 4 * cell))
    assert thumbnail.getpixel((3 * cell + 20, cell + 20)) == (255, 255, 255)
    assert max(thumbnail.getpixel((2 * cell + 20, cell + 20))) < 100


@pytest.mark.parametrize("fit", ["squeeze", "crop", "pad"])
def test_one_tile_draws_alone(fit: str) -> None:
    seen = make_seen(0, 0, 4)
    image = overlay.draw(Image.new("RGB", (40, 30)), seen, Kept(seen.valid, seen.grid.sent), height=200, fit=fit)
    assert image.size == (200, 200)
