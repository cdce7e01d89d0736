"""InternVL: square crops of the stretched picture, its thumbnail behind them, four patches a position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from transformers import PreTrainedModel
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)

from herovlm.errors import InputsError, ModelError
from herovlm.families import merging, packing, processors
from herovlm.families.base import Family, in_one
from herovlm.geometry import Geometry, remembered
from herovlm.prompt.positions import Prompt
from herovlm.seams import refuse
from herovlm.towers.base import Tower
from herovlm.towers.internvit import InternVit

COARSE = 16  # pixels a side, at which crops are compared with their thumbnail


class InternVL(Family):
    """InternVL 2.5 to 3.5 in transformers (the -hf checkpoints), any language model behind it.

    A position is the pixel shuffle of 2 x 2 patches: what is recorded of patches is their mean.  Frames of a video are
    pictures of one tile, as its processor makes them.
    """

    name: ClassVar[str] = "InternVL"
    model_types: ClassVar[tuple[str, ...]] = ("internvl",)
    example: ClassVar[str] = "OpenGVLab/InternVL3-8B-hf"
    towers: ClassVar[tuple[type[Tower], ...]] = (InternVit,)
    vision: ClassVar[tuple[str, ...]] = ("pixel_values", "vision_feature_layer", "vision_feature_select_strategy")

    def checked(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Check the tiles of all images, which lie behind each other."""
        refuse.feature_layers(model, inputs)
        high, wide = model.config.vision_config.image_size
        refuse.tiles(inputs["pixel_values"], high, wide, axes=(4,))
        return dict(inputs)

    def layouts(
        self, model: PreTrainedModel, inputs: Mapping[str, Any], prompt: Prompt | None = None
    ) -> list[Geometry]:
        """Count the tiles of each image by its run of placeholders, and find by their pixels how they lie.

        The inputs say neither: the processor gives the tiles of all images behind each other.  Crops are put together
        in each way that so many can lie, and one way looks like the thumbnail; where none does (a blank picture), the
        squarest is taken.
        """
        pixels: Tensor = inputs["pixel_values"]
        if prompt is None:
            raise InputsError("the prompt says how many tiles an image of InternVL has; give input_ids too")
        counts = _tiles_of(prompt, self.side(model) ** 2, len(pixels))
        return [self._grid(model, shape) for shape in _arranged(pixels, counts)]

    def geometry(self, model: PreTrainedModel, sizes: Sequence[Sequence[int]]) -> list[Geometry]:
        """Find how the image processor cuts pictures of some sizes.

        How many crops it makes at the least and at the most is read from the processor beside the config; where there
        is none, those of its class count.
        """
        tile = tuple(model.config.vision_config.image_size)
        fewest, most = _limits(model.config)
        cuts = [get_optimal_tiled_canvas(tuple(size), tile, fewest, most) for size in sizes]
        return [self._grid(model, (rows, columns)) for columns, rows in cuts]

    def made_up(self, model: PreTrainedModel, size: Sequence[int], random: torch.Generator) -> dict[str, Tensor]:
        """Make a thumbnail that looks like the crops before it."""
        made = super().made_up(model, size, random)["pixel_values"]
        (geometry,) = self.geometry(model, [size])
        if len(made) > 1:
            high, wide = made.shape[-2:]
            made[-1] = adaptive_avg_pool2d(_canvas(made[:-1], geometry.grid.tiles), (high, wide))
        return {"pixel_values": made}

    def side(self, model: PreTrainedModel) -> int:
        """Count the positions on a side of one tile."""
        vision, ratio = model.config.vision_config, model.config.downsample_ratio
        pixels = zip(vision.image_size, vision.patch_size, strict=True)
        high, wide = (int(extent // patch * ratio) for extent, patch in pixels)
        if high != wide:
            raise ModelError(
                f"the tiles of this {self.name} have {high} x {wide} positions; square tiles are supported"
            )
        return high

    def pooled(self, model: PreTrainedModel, values: Tensor, axis: int) -> Tensor:
        """Take the mean of the patches that the pixel shuffle puts together."""
        return merging.blocks(values, axis, round(1 / model.config.downsample_ratio))

    def encoded(
        self, features: Sequence[Tensor], beside: Sequence[Sequence[Tensor]], rows: Sequence[int]
    ) -> dict[str, Any]:
        """Stay a tensor."""
        return in_one(features, rows)

    def _grid(self, model: PreTrainedModel, shape: tuple[int, int]) -> Geometry:
        """Lay crops out, the thumbnail behind them unless there is one tile alone."""
        side = self.side(model)
        return remembered((type(self), side, shape), partial(packing.crops, *shape, side))


def _tiles_of(prompt: Prompt, positions: int, tiles: int) -> list[int]:
    """Count the tiles of each image: each image is one run of placeholders."""
    places = prompt.placeholders
    row, column = places.unbind(1)
    first = torch.ones(len(places), dtype=torch.bool)
    first[1:] = (row.diff() != 0) | (column.diff() != 1)
    runs = torch.bincount(first.cumsum(0) - 1).tolist() if len(places) else []
    if any(run % positions for run in runs) or sum(runs) != tiles * positions:
        raise InputsError(
            f"input_ids hold {len(places):,} image placeholders (token {prompt.image}) in runs of {runs}, but "
            f"pixel_values are {tiles} tile(s) of {positions} positions; make both with the processor of this model"
        )
    return [run // positions for run in runs]


def _arranged(pixels: Tensor, counts: Sequence[int]) -> list[tuple[int, int]]:
    """Find rows and columns of the crops of each image; (1, 1) is one tile alone."""
    if max(counts, default=1) == 1:
        return [(1, 1)] * len(counts)
    small = adaptive_avg_pool2d(pixels.float(), COARSE).cpu()  # the host waits once for all images
    return [_arrangement(tiles) if len(tiles) > 1 else (1, 1) for tiles in torch.split(small, list(counts))]


def _arrangement(tiles: Tensor) -> tuple[int, int]:
    """Find the rows and columns in which crops (K, 3, s, s) look like the thumbnail behind them."""
    crops, thumbnail = tiles[:-1], tiles[-1]

    def apart(shape: tuple[int, int]) -> float:
        return float((adaptive_avg_pool2d(_canvas(crops, shape), crops.shape[-1]) - thumbnail).square().mean())

    count = len(crops)
    shapes = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    return min(sorted(shapes, key=lambda shape: abs(shape[0] - shape[1])), key=apart)


def _canvas(crops: Tensor, shape: tuple[int, int]) -> Tensor:
    """Lay crops (K, 3, h, w) side by side: (3, rows * h, columns * w)."""
    rows, columns = shape
    high, wide = crops.shape[-2:]
    laid = crops.view(rows, columns, *crops.shape[1:]).permute(2, 0, 3, 1, 4)
    return laid.reshape(-1, rows * high, columns * wide)


def _limits(config: Any) -> tuple[int, int]:
    """Read how many crops the image processor beside a config makes at the least and at the most."""
    told, usual = processors.settings(config), GotOcr2ImageProcessorPil
    return int(told.get("min_patches", usual.min_patches)), int(told.get("max_patches", usual.max_patches))
