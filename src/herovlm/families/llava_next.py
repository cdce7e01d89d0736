"""LLaVA-NeXT (LLaVA-1.6): a thumbnail and local tiles, un-padded, each canvas row closed by a newline."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.image_utils import ChannelDimension
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel, image_size_to_num_patches

from herovlm.errors import InputsError
from herovlm.families.base import Family
from herovlm.families.packing import Packer, ask_packer
from herovlm.geometry import Geometry, remembered
from herovlm.prompt.positions import Prompt
from herovlm.seams import refuse


class LlavaNext(Family):
    """LLaVA-NeXT in transformers, any language model behind it."""

    name: ClassVar[str] = "LLaVA-NeXT"
    model_types: ClassVar[tuple[str, ...]] = ("llava_next",)
    example: ClassVar[str] = "llava-hf/llava-v1.6-mistral-7b-hf"
    shrinks: ClassVar[bool] = True
    alone_newlines: ClassVar[int] = 1

    def newline(self, model: PreTrainedModel) -> Tensor | None:
        """Return the embedding that closes a row."""
        newline: Tensor = model.base_model.image_newline
        return newline

    def encoder(self, model: PreTrainedModel) -> Any:
        """Return the network as it is, but for packing, which would be undone at once."""
        network: Any = copy.copy(model.base_model)
        network.pack_image_features = lambda features, *_args, **_kwargs: (features, None)
        return network

    def shell(self, config: Any) -> Any:
        """Return what the model class's own packer touches: a config, and itself."""
        return packing_shell(LlavaNextModel.pack_image_features, config)

    def layouts(
        self, model: PreTrainedModel, inputs: Mapping[str, Any], prompt: Prompt | None = None
    ) -> list[Geometry]:
        """Find the geometry of every image of a call by its size."""
        images = self.geometry(model, sizes_in(inputs).tolist())
        refuse.tile_counts(inputs["pixel_values"], [image.encoded // self.side(model) ** 2 for image in images])
        return images

    def geometry(self, model: PreTrainedModel, sizes: Sequence[Sequence[int]]) -> list[Geometry]:
        """Ask the model's own packer, once for a picture and once for its padded canvas; remember what it said."""
        config, packer = model.config, model.base_model.pack_image_features
        pinpoints = tuple(map(tuple, config.image_grid_pinpoints))
        vision = (config.vision_config.image_size, config.vision_config.patch_size)
        own = getattr(packer, "__func__", getattr(packer, "func", packer))
        rules = (own, pinpoints, vision, config.vision_feature_select_strategy)

        def ask(size: list[int]) -> Geometry:
            one, canvas = (torch.tensor([x]) for x in (size, select_best_resolution(size, config.image_grid_pinpoints)))
            return ask_packer(_packer(model), self._counts(model, one), self.side(model), one, canvas)[0]

        return [remembered((rules, *size), partial(ask, list(size))) for size in sizes]

    def made_up(self, model: PreTrainedModel, size: Sequence[int], random: torch.Generator) -> dict[str, Tensor]:
        """Put the tiles of a picture beside its size."""
        made = super().made_up(model, size, random)
        return {"image_sizes": torch.tensor([list(size)]), "pixel_values": made["pixel_values"][None]}

    def filled(self, model: PreTrainedModel, size: Sequence[int]) -> tuple[int, int]:
        """Return height and width of a picture on its canvas."""
        return _fitted(size, select_best_resolution(list(size), model.config.image_grid_pinpoints))

    def tiles(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> Tensor:
        """Return real tiles only: a batch is padded with empty tiles up to its largest image."""
        pixels: Tensor = inputs["pixel_values"]
        if pixels.ndim == 4:
            return pixels
        counts = self._counts(model, sizes_in(inputs))
        return torch.cat([image[:count] for image, count in zip(pixels, counts, strict=True)])

    def pictures(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> list[Tensor]:
        """Lay the local tiles of each image side by side and cut the padding off."""
        sizes, found = sizes_in(inputs), []
        tiles = torch.split(self.tiles(model, inputs), self._counts(model, sizes))
        for size, pixels in zip(sizes.tolist(), tiles, strict=True):
            side = pixels.shape[-1]
            canvas = select_best_resolution(size, model.config.image_grid_pinpoints)
            shape = (canvas[0] // side, canvas[1] // side, *pixels.shape[1:])
            whole = (
                pixels[1:].view(shape).permute(2, 0, 3, 1, 4).reshape(pixels.shape[1], *canvas)
            )  # (3, height, width)
            height, width = _fitted(size, canvas)
            top, left = (canvas[0] - height) // 2, (canvas[1] - width) // 2
            found.append(whole[:, top : top + height, left : left + width])
        return found

    def with_tiles(self, model: PreTrainedModel, side: int) -> PreTrainedModel:
        """Change the canvases with the tiles."""
        network: Any = super().with_tiles(model, side)
        before, now = (one.config.vision_config.image_size for one in (model, network))
        pinpoints = [[extent // before * now for extent in canvas] for canvas in model.config.image_grid_pinpoints]
        network.config.image_grid_pinpoints = pinpoints
        packs = isinstance(
            network, PreTrainedModel
        )  # the packer of a shell is bound to the config that it was made with
        return cast("PreTrainedModel", network if packs else self.shell(network.config))

    def fits(self, model: PreTrainedModel, size: tuple[int, int]) -> dict[tuple[int, int], tuple[int, int]]:
        """Fit the picture into every canvas; the model takes the one it likes best for that size, and packs nothing."""
        sizes = list(dict.fromkeys(_fitted(size, canvas) for canvas in model.config.image_grid_pinpoints))
        asked = torch.tensor(sizes)
        counts = self._counts(model, asked)
        maps = [torch.empty(count, self.side(model) ** 2, 1, device="meta") for count in counts]
        packed = _packer(model)(maps, asked, torch.empty(1, device="meta"))
        return {one: (count, len(own)) for one, count, own in zip(sizes, counts, packed, strict=True)}

    def _counts(self, model: PreTrainedModel, sizes: Tensor) -> list[int]:
        """Tiles of each image, thumbnail included."""
        tile = model.config.vision_config.image_size
        return [image_size_to_num_patches(size, model.config.image_grid_pinpoints, tile) for size in sizes.tolist()]


def _packer(model: PreTrainedModel) -> Packer:
    """Return the model's own packer."""
    strategy = model.config.vision_feature_select_strategy

    def pack(maps: list[Tensor], image_sizes: Tensor, newline: Tensor) -> list[Tensor]:
        packed, _lengths = model.base_model.pack_image_features(maps, image_sizes, strategy, image_newline=newline)
        return list(packed)

    return pack


def _fitted(size: Sequence[int], canvas: Sequence[int]) -> tuple[int, int]:
    """Return height and width of a picture that fills a canvas without being cut or stretched."""
    picture = torch.empty(3, *size, device="meta")
    height, width = get_patch_output_size(picture, canvas, ChannelDimension.FIRST)
    return height, width


def packing_shell(packer: Callable[..., Any], config: Any) -> Any:
    """Make what a packer touches of a model."""
    network = SimpleNamespace(config=config)
    network.base_model, network.pack_image_features = network, partial(packer, network)
    return network


def sizes_in(inputs: Mapping[str, Any]) -> Tensor:
    """Read image_sizes, (images, 2) height and width."""
    sizes = inputs.get("image_sizes")
    if sizes is None:
        raise InputsError("image_sizes are missing; the processor of this model gives them beside pixel_values")
    sizes = torch.as_tensor(sizes).cpu().view(-1, 2)
    pixels = inputs["pixel_values"]
    if pixels.ndim not in (4, 5) or (pixels.ndim == 5 and len(pixels) != len(sizes)):
        raise InputsError(f"pixel_values of shape {tuple(pixels.shape)} do not fit {len(sizes)} image_sizes")
    return sizes
