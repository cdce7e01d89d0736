"""Idefics3 and SmolVLM: square crops between markers of rows and columns, the whole picture behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.image_utils import SizeDict
from transformers.models.idefics3.image_processing_pil_idefics3 import (
    Idefics3ImageProcessorPil,
    get_resize_output_image_size,
)
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMModel

from herovlm.errors import InputsError, ModelError, UnsupportedError
from herovlm.families import merging, packing, processors
from herovlm.families.base import Family, in_one
from herovlm.geometry import Geometry, remembered
from herovlm.prompt.positions import Prompt
from herovlm.seams import refuse
from herovlm.towers.base import Tower
from herovlm.towers.idefics_vit import IdeficsVit


class Idefics3(Family):
    """Idefics3 in transformers, any language model behind it.

    A position is the pixel shuffle of scale_factor x scale_factor patches: what is recorded of patches is their mean.
    The markers between tiles are text and stay, also around a tile of which nothing is kept.
    """

    name: ClassVar[str] = "Idefics3"
    model_types: ClassVar[tuple[str, ...]] = ("idefics3",)
    example: ClassVar[str] = "HuggingFaceM4/Idefics3-8B-Llama3"
    towers: ClassVar[tuple[type[Tower], ...]] = (IdeficsVit,)
    vision: ClassVar[tuple[str, ...]] = ("pixel_values", "pixel_attention_mask")

    def checked(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Check the tiles of all prompts, (B, tiles, 3, height, width), filled up with empty ones."""
        pixels, mask = inputs["pixel_values"], inputs.get("pixel_attention_mask")
        side = pixels.shape[-1] if isinstance(pixels, Tensor) and pixels.ndim else 0
        refuse.tiles(pixels, side, side, axes=(5,))
        if mask is not None:
            refuse.legible("pixel_attention_mask", mask)
            if mask.shape != (*pixels.shape[:2], *pixels.shape[3:]):
                raise InputsError(
                    f"pixel_attention_mask of shape {tuple(mask.shape)} does not fit pixel_values of shape "
                    f"{tuple(pixels.shape)}; give both as the processor returned them"
                )
        return dict(inputs)

    def layouts(
        self, model: PreTrainedModel, inputs: Mapping[str, Any], prompt: Prompt | None = None
    ) -> list[Geometry]:
        """Find by the text between their runs of placeholders how the tiles of each image lie."""
        pixels: Tensor = inputs["pixel_values"]
        if prompt is None:
            raise InputsError(f"the prompt says how many tiles an image of {self.name} has; give input_ids too")
        side, found = self._side(model, pixels.shape[-1]), []
        if len(pixels) != len(prompt.ids):
            raise InputsError(f"pixel_values are of {len(pixels)} prompts, but input_ids of {len(prompt.ids)}")
        for row, ids in enumerate(prompt.ids):
            shapes = _shapes(ids, prompt.image, side * side)
            tiles = sum(rows * columns + (rows * columns > 1) for rows, columns in shapes)
            if tiles > pixels.shape[1]:
                raise InputsError(
                    f"prompt {row + 1} has placeholders for {tiles} tiles, but pixel_values hold {pixels.shape[1]} a "
                    "prompt; make both with the processor of this model"
                )
            found += shapes
        if not found:
            raise InputsError(f"pixel_values come with input_ids that hold no image placeholder (token {prompt.image})")
        return [self._grid(side, shape) for shape in found]

    def geometry(self, model: PreTrainedModel, sizes: Sequence[Sequence[int]]) -> list[Geometry]:
        """Find how the image processor cuts pictures of some sizes, by its own arithmetic.

        How large tiles and pictures are made is read from the processor beside the config; where there is none, a tile
        is as large as the tower was made for, and a picture as many tiles long as those of the processor's class.
        """
        usual, told = Idefics3ImageProcessorPil, processors.settings(model.config)
        tile = told.get("max_image_size", {"longest_edge": model.config.vision_config.image_size})["longest_edge"]
        most = usual.size["longest_edge"] // usual.max_image_size["longest_edge"]
        size = {"do_resize": True, "do_image_splitting": True, "size": {"longest_edge": most * tile}, **told}
        side = self._side(model, tile)
        return [self._grid(side, _cut(tuple(one), tile, size)) for one in sizes]

    def made_up(self, model: PreTrainedModel, size: Sequence[int], random: torch.Generator) -> dict[str, Tensor]:
        """Make tiles as large as the processor makes them, those of a prompt in one."""
        (geometry,), config = self.geometry(model, [size]), model.config
        extent = geometry.grid.side * config.scale_factor * config.vision_config.patch_size
        return {"pixel_values": torch.randn((1, len(geometry.valid), 3, extent, extent), generator=random)}

    def written(self, model: PreTrainedModel, geometry: Geometry) -> Tensor:
        """Write `F m X` for each tile, a newline before what begins a row and before the whole picture, F behind it."""
        image = model.config.image_token_id
        newline, around, marker = [token for token in range(4) if token != image][:3]
        cells, columns = geometry.valid.shape[1], geometry.grid.tiles[1]
        ids: list[int] = []
        for tile in range(len(geometry.valid)):
            begins = tile > 0 and tile % columns == 0  # the whole picture stands where one more row would begin
            ids += [newline] * begins + [around, marker] + [image] * cells
        return torch.tensor([*ids, around])

    def side(self, model: PreTrainedModel) -> int:
        """Count the positions on a side of one tile, as large as the tower was made for."""
        return self._side(model, model.config.vision_config.image_size)

    def pooled(self, model: PreTrainedModel, values: Tensor, axis: int) -> Tensor:
        """Take the mean of the patches that the pixel shuffle puts together."""
        return merging.blocks(values, axis, model.config.scale_factor)

    def encoded(
        self, features: Sequence[Tensor], beside: Sequence[Sequence[Tensor]], rows: Sequence[int]
    ) -> dict[str, Any]:
        """Give a tensor, which every release takes: 5.18 takes no list."""
        return in_one(features, rows)

    def tower(self, model: PreTrainedModel) -> nn.Module:
        """Return the vision tower."""
        return _part(model, "vision_model")

    def sees_through(self, model: PreTrainedModel) -> Tower:
        """Return how the tower is read: these models make it themselves, whatever a config calls it."""
        return IdeficsVit()

    def projector(self, model: PreTrainedModel) -> nn.Module:
        """Return what is applied position by position: behind the pixel shuffle."""
        return _part(model, "connector.modality_projection")

    def feature_blocks(self, model: PreTrainedModel, inputs: Mapping[str, Any], depth: int) -> tuple[int, ...]:
        """Features are taken behind the last block."""
        return (depth,)

    def _side(self, model: PreTrainedModel, pixels: int) -> int:
        """Count the positions on a side of a tile of so many pixels."""
        config = model.config
        patches = pixels // config.vision_config.patch_size
        if not patches or patches % config.scale_factor:
            raise ModelError(
                f"tiles of {pixels} pixels have {patches} patches a side, which a pixel shuffle by "
                f"{config.scale_factor} does not divide; the processor's max_image_size does not fit the model"
            )
        return int(patches // config.scale_factor)

    def _grid(self, side: int, shape: tuple[int, int]) -> Geometry:
        """Lay crops out, the whole picture behind them unless there is one tile alone."""
        return remembered((Idefics3, side, shape), partial(packing.crops, *shape, side))


class SmolVlm(Idefics3):
    """SmolVLM and SmolVLM2 in transformers: as Idefics3; frames of a video are pictures of one tile."""

    name: ClassVar[str] = "SmolVLM"
    model_types: ClassVar[tuple[str, ...]] = ("smolvlm",)
    example: ClassVar[str] = "HuggingFaceTB/SmolVLM2-2.2B-Instruct"

    def accepts(self, model: PreTrainedModel, counts: Sequence[int]) -> None:
        """Refuse what transformers 5.20 cannot read, which takes features in groups of as many as a patch is wide."""
        group = model.config.vision_config.patch_size
        wrong = [count for count in counts if count % group]
        if wrong and not _reads_any_number():
            fine = max(1, wrong[0] // group) * group
            raise UnsupportedError(
                f"a prompt that keeps {wrong[0]:,} positions: this release of transformers gives SmolVLM its features "
                f"in groups of {group}; keep a multiple of that (tokens={fine}), or update transformers"
            )


@cache
def _reads_any_number() -> bool:
    """Return whether SmolVLM puts three features in the places of three placeholders, whatever its patches are."""
    merge = getattr(SmolVLMModel, "inputs_merger", None)
    stub = SimpleNamespace(config=SimpleNamespace(image_token_id=0, vision_config=SimpleNamespace(patch_size=2)))
    try:
        if merge is not None:
            merge(stub, torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 3, 1), torch.zeros(3, 1, 1))
    except (ValueError, RuntimeError):
        return False
    return True


def _shapes(ids: Tensor, image: int, cells: int) -> list[tuple[int, int]]:
    """Read rows and columns of the crops of each image off one prompt (L,); (1, 1) is one tile alone.

    The processor writes `F m X` for each tile, X its placeholders, m a marker, F the token around images; a newline
    before the F of a tile that begins a row, and before the whole picture; F behind an image.  So F is what stands
    behind the last placeholder; a gap that begins with something else begins a row, one with two F an image.
    """
    at = (ids == image).nonzero().flatten()
    starts = at[::cells]
    runs = starts[:, None] + torch.arange(cells)
    if at.numel() % cells or not torch.equal(runs.flatten(), at):
        raise InputsError(
            f"{at.numel():,} image placeholders (token {image}) are no runs of {cells}, one for each tile; make "
            "input_ids and pixel_values with the processor of this model"
        )
    text, first = ids.tolist(), starts.tolist()
    if not first:
        return []
    around = text[first[-1] + cells] if first[-1] + cells < len(text) else None
    gaps = [text[here + cells : after] for here, after in pairwise(first)]
    images = [[1, 0]]  # tiles, rows
    for gap in gaps:
        if gap.count(around) > 1:
            images.append([1, 0])
        else:
            images[-1] = [images[-1][0] + 1, images[-1][1] + (gap[:1] != [around])]
    marked = around is not None and all(around in gap for gap in gaps)
    if not marked or any(tiles > 1 and (not rows or (tiles - 1) % rows) for tiles, rows in images):
        raise InputsError(
            "the text between the tiles of an image is not that of the processor: it has a newline before each row, "
            "and a token of its own before each tile and behind the image"
        )
    return [(rows, (tiles - 1) // rows) if tiles > 1 else (1, 1) for tiles, rows in images]


def _cut(size: tuple[int, ...], tile: int, how: Mapping[str, Any]) -> tuple[int, int]:
    """Let the image processor resize and split a picture (height, width) of which there is nothing but its size."""

    def blank(_image: Any, size: Any, **_: Any) -> Any:
        return np.broadcast_to(np.uint8(0), (3, size.height, size.width))

    if not how["do_image_splitting"]:
        return 1, 1
    usual, own = Idefics3ImageProcessorPil, SimpleNamespace(resize=blank)
    picture = blank(None, SizeDict(height=size[0], width=size[1]))
    if how["do_resize"]:
        extent, edge = how["size"], how["size"].get("longest_edge")
        height, width = get_resize_output_image_size(picture, edge) if edge else (extent["height"], extent["width"])
        picture = blank(None, SizeDict(height=height, width=width))
    picture = usual.resize_for_vision_encoder(own, picture, tile)
    _, rows, columns = usual.split_images(own, picture, {"longest_edge": tile})
    return (rows, columns) if rows * columns else (1, 1)


def _part(model: PreTrainedModel, path: str) -> nn.Module:
    """Return a part of the network.

    Raises:
        ModelError: there is none.
    """
    try:
        part: nn.Module = model.base_model.get_submodule(path)
    except AttributeError as error:
        raise ModelError(f"{type(model).__name__} has no {path}; herovlm needs one to look through") from error
    return part
