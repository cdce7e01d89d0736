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
    white = Image.new("RGB", (400, 380), "white")
    image, thumbnail = overlay.draw(white, seen, Kept(mask, seen.grid.sent), height=320)
    cell = 320 // 8
    lit, valid = geometry.canvas(mask, seen.grid), geometry.canvas(seen.valid, seen.grid)
    for row in range(8):
        for col in range(8):
            pixel = image.getpixel((col * cell + cell // 2, row * cell + cell // 2))
            expected = (255, 255, 255) if lit[row, col] else overlay.PADDING if not valid[row, col] else None
            assert pixel == expected if expected else max(pixel) < 100
    assert thumbnail.getpixel((3 * cell + 20, cell + 20)) == (255, 255, 255)
    assert max(thumbnail.getpixel((2 * cell + 20, cell + 20))) < 100


@pytest.mark.parametrize("fit", ["squeeze", "crop", "pad"])
def test_one_tile_draws_alone(fit: str) -> None:
    seen = make_seen(0, 0, 4)
    (image,) = overlay.draw(Image.new("RGB", (40, 30)), seen, Kept(seen.valid, seen.grid.sent), height=200, fit=fit)
    assert image.size == (200, 200)


@pytest.mark.parametrize("tiles", [(2, 2), (1, 3), (3, 1)])
def test_counts_stand_beside_the_tiles_and_cover_nothing(tiles: tuple[int, int]) -> None:
    rows, cols = tiles
    panel = Image.effect_noise((cols * 90, rows * 90), 200).convert("RGB")
    whole = overlay.counted(panel, tiles, range(rows * cols))
    strip = (whole.height - panel.height) // rows
    assert whole.width == panel.width
    for row in range(rows):
        top = row * (90 + strip)
        band = whole.crop((0, top + strip, panel.width, top + strip + 90))
        assert band.tobytes() == panel.crop((0, row * 90, panel.width, row * 90 + 90)).tobytes()
        for col in range(cols):
            written = whole.crop((col * 90, top, col * 90 + 90, top + strip))
            assert len(written.getcolors(9999)) > 1
