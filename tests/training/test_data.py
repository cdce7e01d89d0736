"""What the demo model is trained on is what the processor will show it."""

from __future__ import annotations

import pytest
import torch

from herovlm.demo import draw, scenes
from training.demo import data, export

SEEDS = range(7_000, 7_012)


@pytest.mark.parametrize("seed", SEEDS)
def test_tiles_are_those_of_the_processor(seed: int) -> None:
    picture = data.picture(seed)
    shown = export.image_processor()(images=picture.scene.image, return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(data.pixels(picture.tiles), shown[: len(picture.tiles)])
    assert len(picture.tiles) == len(shown) == 1 + picture.local[0] * picture.local[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_label_is_a_target_of_one_local_tile(seed: int) -> None:
    picture = data.picture(seed)
    for item in picture.scene.items:
        digits = torch.tensor([int(char) for char in item.text if char != "."])
        here = (picture.targets[..., 2:] == digits).all(-1)  # (T, N)
        assert not here[0].any(), "labels are illegible in the thumbnail"
        assert here.any(1).sum() == 1
        look = torch.tensor([draw.SHAPES.index(item.shape), data.COLOURS.index(item.colour)])
        assert (picture.targets[here][:, :2] == look).all(), "a label knows the shape that it belongs to"


def test_covered_finds_the_patches_of_a_box() -> None:
    size = scenes.PATCH
    assert data.covered((0, 0, size, size), 0.4) == [0]
    assert data.covered((size / 2, 0, 1.5 * size, size), 0.4) == [0, 1]
    assert data.covered((size * 0.8, 0, 1.8 * size, size), 0.4) == [1]


@pytest.mark.parametrize("seed", SEEDS)
def test_places_are_where_the_patches_of_the_shapes_are(seed: int) -> None:
    picture = data.picture(seed)
    for tile, items in enumerate(picture.inside):
        for item in items:
            column, row = picture.place(item, tile)
            look = torch.tensor([draw.SHAPES.index(item.shape), data.COLOURS.index(item.colour)])
            here = (picture.targets[tile, :, :2] == look).all(-1).view(data.SIDE, data.SIDE)
            near = here[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]  # small in the thumbnail
            assert here[row, column] or (tile == 0 and near.any())


def test_the_middle_of_a_tile_is_where_the_processor_puts_it() -> None:
    picture = data.picture(next(seed for seed in range(99) if scenes.make(seed).image.size == (384, 288)))
    assert picture.middle(0) == (192, 144)
    assert [picture.middle(tile) for tile in range(1, 5)] == [(96, 48), (288, 48), (96, 240), (288, 240)]
