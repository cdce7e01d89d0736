"""Geometry: what the index maps say is what the model's own packing does."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from grids import make_grid
from torch import Tensor

from herovlm.families import packing
from herovlm.families.llava_next import LlavaNext
from herovlm.geometry import Geometry
from herovlm.types import Grid

SIZES = [(32, 32), (31, 60), (60, 20), (16, 16), (16, 33), (300, 20), (20, 300), (7, 9), (1, 1), (2, 400), (400, 2)]


def layouts(models: Any, sizes: list[tuple[int, int]]) -> list[Geometry]:
    pixels = torch.zeros(len(sizes), 5, 3, tiny.TILE, tiny.TILE)
    return LlavaNext().layouts(models("llava_next").model, {"pixel_values": pixels, "image_sizes": torch.tensor(sizes)})


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_unpacked_layout_reproduces_packed_features(models: Any, size: tuple[int, int]) -> None:
    model, layout = models("llava_next").model, layouts(models, [size])[0]
    maps = torch.randn(*layout.valid.shape, 8)
    newline = torch.randn(8)
    packed = model.pack_image_features([maps], torch.tensor([size]), "default", image_newline=newline)[0][0]
    order = layout.grid.order[layout.on_sent]
    rebuilt = torch.where((order >= 0)[:, None], maps.flatten(0, 1)[order.clamp(min=0)], newline)
    assert torch.equal(rebuilt, packed)
    assert layout.positions == len(packed)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_grid_is_the_whole_padded_canvas(models: Any, size: tuple[int, int]) -> None:
    layout = layouts(models, [size])[0]
    rows, cols = layout.grid.tiles
    assert layout.valid.shape == (1 + rows * cols, layout.grid.side**2)
    assert layout.valid[0].all()  # the thumbnail has no padding
    by_hand = make_grid(rows, cols, layout.grid.side)  # written without the model
    assert torch.equal(layout.grid.order, by_hand.order)
    assert torch.equal(layout.grid.row, by_hand.row)
    sent_rows = layout.grid.row[layout.valid & (layout.grid.row >= 0)].unique()
    assert layout.grid.sent[sent_rows].all()


def test_images_of_a_batch_do_not_mix(models: Any) -> None:
    for size, together in zip(SIZES, layouts(models, SIZES), strict=True):
        alone = layouts(models, [size])[0]
        assert torch.equal(alone.valid, together.valid)
        assert torch.equal(alone.grid.order, together.grid.order)
        assert torch.equal(alone.grid.sent, together.grid.sent)


def test_known_counts_of_the_real_shape() -> None:
    """Numbers measured on the real configuration: 336-pixel tiles of 24 x 24 patches."""
    from transformers import LlavaNextConfig
    from transformers.models.llava_next.modeling_llava_next import LlavaNextModel

    config = LlavaNextConfig()

    class Bare:
        """Only what the packer touches."""

        def __init__(self) -> None:
            self.config = config
            self.base_model = self

        def pack_image_features(self, *args: Any, **kwargs: Any) -> Any:
            return LlavaNextModel.pack_image_features(self, *args, **kwargs)  # type: ignore[arg-type]

    sizes = [(672, 672), (480, 640), (1080, 1920), (1920, 1080), (336, 336), (300, 2000), (500, 375)]
    known = [2928, 2340, 1948, 1968, 1176, 1306, 2352]
    pixels = torch.zeros(len(sizes), 10, 1, 1, 1)
    inputs = {"pixel_values": pixels, "image_sizes": torch.tensor(sizes)}
    assert [layout.positions for layout in LlavaNext().layouts(Bare(), inputs)] == known  # type: ignore[arg-type]


def test_a_lone_tile_ends_in_one_newline(models: Any) -> None:
    model = models("llava_next").model

    def pack(maps: list[Tensor], sizes: Tensor, newline: Tensor) -> list[Tensor]:
        return list(model.pack_image_features(maps, sizes, "default", image_newline=newline)[0])

    sizes = torch.tensor([[16, 16]])
    layout = packing.ask_packer(pack, [1], 4, sizes, sizes)[0]
    assert layout.grid.tiles == (0, 0)
    assert layout.grid.order.tolist() == [*range(16), -1]
    assert layout.grid.sent.tolist() == [True]
    assert layout.grid.row.unique().tolist() == [0]


def test_a_plain_tile_is_raster_order_without_newlines() -> None:
    layout = packing.plain(3)
    assert layout.grid.order.tolist() == list(range(9))
    assert layout.grid.rows == 0
    assert layout.grid.row.unique().tolist() == [-1]
    assert layout.valid.all()
    assert layout.positions == 9


def test_on_slots_finds_patches_and_newlines() -> None:
    grid = Grid((1, 1), 1, torch.tensor([0, 1, -1, -2]), torch.tensor([[-1], [0]]), torch.tensor([True, True]))
    patches, newlines = torch.tensor([[False], [True]]), torch.tensor([True, False])
    assert grid.on_slots(patches, newlines).tolist() == [False, True, True, False]
