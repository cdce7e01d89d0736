"""LLaVA-OneVision: tiles and newlines as in LLaVA-NeXT; a large canvas is shrunk, several pictures are not tiled."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

from herovlm.errors import InputsError, UnsupportedError
from herovlm.families import packing
from herovlm.families.llava_next import LlavaNext, packing_shell, sizes_in
from herovlm.geometry import Geometry, Mixed, remembered
from herovlm.prompt.positions import Prompt
from herovlm.seams import refuse
from herovlm.towers.base import Tower
from herovlm.towers.siglip import Siglip

WHOLE = f"anyres_max_{10**9}"  # as vision_aspect_ratio: no canvas is large enough to be shrunk


class LlavaOnevision(LlavaNext):
    """The images of LLaVA-OneVision in transformers, any language model behind it; videos are refused.

    A canvas of more positions than the model allows is shrunk by it (bilinearly, behind the projector): then a position
    is a mixture of up to four patches, and no tile of the tower's.  The shrunk canvas is cut into windows as large as a
    tile, which play the part of tiles; whatever was recorded of patches is shrunk by the model's own packer, as the
    features are.
    """

    name: ClassVar[str] = "LLaVA-OneVision"
    example: ClassVar[str] = "llava-hf/llava-onevision-qwen2-7b-ov-hf"
    model_types: ClassVar[tuple[str, ...]] = ("llava_onevision",)
    towers: ClassVar[tuple[type[Tower], ...]] = (Siglip,)
    vision: ClassVar[tuple[str, ...]] = (*LlavaNext.vision, "vision_aspect_ratio", "batch_num_images")
    shrinks: ClassVar[bool] = False

    def shell(self, config: Any) -> Any:
        """Return what the model class's own packer touches: a config, and itself."""
        return packing_shell(LlavaOnevisionModel.pack_image_features, config)

    def checked(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Check tiles, sizes, and how many pictures each prompt has."""
        refuse.feature_layers(model, inputs, strategy="full")
        own, given = model.config.vision_aspect_ratio, inputs.get("vision_aspect_ratio")
        if given not in (None, own):
            raise UnsupportedError(
                f"vision_aspect_ratio={given!r}: generate() would heed it and model(...) would not; set it in the "
                f"model's config, which says {own!r}, and in its processor"
            )
        side = model.config.vision_config.image_size
        refuse.tiles(inputs["pixel_values"], side, side, axes=(4, 5))
        sizes = refuse.sizes_of(inputs.get("image_sizes"))
        return {**inputs, "image_sizes": sizes, "batch_num_images": _prompts(inputs.get("batch_num_images"), sizes)}

    def layouts(
        self, model: PreTrainedModel, inputs: Mapping[str, Any], prompt: Prompt | None = None
    ) -> list[Geometry]:
        """Find the geometry of every image of a call: one that is alone in its prompt is tiled."""
        side = self.side(model)
        lone = remembered(("one tile and a newline", side), lambda: packing.alone(side, newline=True))
        alone = self.geometry(model, sizes_in(inputs).tolist())
        images = [one if cut else lone for one, cut in zip(alone, _tiled(inputs, len(alone)), strict=True)]
        refuse.tile_counts(inputs["pixel_values"], [image.encoded // side**2 for image in images])
        return images

    def geometry(self, model: PreTrainedModel, sizes: Sequence[Sequence[int]]) -> list[Geometry]:
        """Ask the model's own packer about pictures that are alone in their prompts; remember what it said."""
        config, packer = model.config, model.base_model.pack_image_features
        vision, most = config.vision_config, config.vision_aspect_ratio
        own = getattr(packer, "__func__", getattr(packer, "func", packer))
        rules = (own, tuple(map(tuple, config.image_grid_pinpoints)), vision.image_size, vision.patch_size, most)

        def ask(size: tuple[int, int]) -> Geometry:
            canvas = select_best_resolution(size, config.image_grid_pinpoints)
            (count,) = self._counts(model, torch.tensor([size]))  # a copy: what is remembered outlives the model
            return _asked(
                partial(_pack, packing_shell(own, copy.deepcopy(config))), count, self.side(model), (size, canvas), most
            )

        return [remembered((*rules, *size), partial(ask, (int(size[0]), int(size[1])))) for size in sizes]

    def tiles(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> Tensor:
        """Return real tiles only: a batch is padded with empty tiles up to its largest image."""
        pixels: Tensor = inputs["pixel_values"]
        if pixels.ndim == 4:
            return pixels
        counts = self._counts(model, sizes := sizes_in(inputs))
        cut = _tiled(inputs, len(sizes))
        return torch.cat([x[: n if own else 1] for x, n, own in zip(pixels, counts, cut, strict=True)])


def _pack(shell: Any, tiles: Tensor, size: Sequence[int], newline: Tensor | None, most: str) -> Tensor:
    """Pack what belongs to the patches of one image, (T, N, C) -> (positions, C), as the model packs features."""
    packed, _lengths = shell.pack_image_features(
        [tiles], torch.tensor([size]), image_newline=newline, vision_aspect_ratio=most
    )
    own: Tensor = packed[0]
    return own


def _asked(
    pack: Callable[..., Tensor], count: int, side: int, sizes: tuple[Sequence[int], Sequence[int]], most: str
) -> Geometry:
    """Find the geometry of a picture, first as if its canvas were not shrunk, then whether it is.

    Args:
        pack: packs (T, N, C), given a size (height, width), a newline and the most tiles that a canvas may fill.
        count: T.
        side: patches a side of one tile.
        sizes: height and width of the picture and of its canvas.
        most: as in `config.vision_aspect_ratio`.
    """
    size, canvas = sizes

    def whole(maps: list[Tensor], asked: Tensor, newline: Tensor) -> list[Tensor]:
        return [pack(own, one, newline, WHOLE) for own, one in zip(maps, asked.tolist(), strict=True)]

    one, full = (torch.tensor([x]) for x in (size, canvas))
    (found,) = packing.ask_packer(whole, [count], side, one, full)
    marks = pack(torch.zeros(count, side * side, 1), size, torch.ones(1), most)  # 1 is a newline
    if len(marks) == found.positions:
        return found
    rows = int(marks.sum())
    shrunk = packing.windows(side, rows, (len(marks) - side * side) // rows - 1)
    filled = shrunk.grid.order[shrunk.on_sent & (shrunk.grid.order >= 0)]  # cells in the order of what is packed
    source = torch.zeros(shrunk.valid.numel(), dtype=torch.long)
    source[filled] = torch.arange(len(filled))

    def mixed(patches: Tensor) -> Tensor:
        packed = pack(patches.reshape(count, side * side, -1), size, None, most)
        return packed.view(-1, *patches.shape[1:])

    return replace(shrunk, source=source, mixed=Mixed(count * side * side, mixed))


def _prompts(counts: Any, sizes: Tensor | None) -> Tensor | None:
    """Check how many pictures each prompt has, if that is told; bring it to the host."""
    if counts is None:
        return None
    counts = torch.as_tensor(counts) if isinstance(counts, list | tuple) else counts
    refuse.legible("batch_num_images", counts)
    counts, pictures = counts.cpu(), 0 if sizes is None else len(sizes)
    if counts.ndim != 1 or counts.is_floating_point() or bool((counts < 0).any()) or int(counts.sum()) != pictures:
        raise InputsError(
            f"batch_num_images={counts.tolist()} must count the {pictures} picture(s) prompt by prompt; give what the "
            "processor returned"
        )
    own: Tensor = counts
    return own


def _tiled(inputs: Mapping[str, Any], pictures: int) -> list[bool]:
    """Return of each picture whether it is cut into tiles: those that are not alone in their prompt are not."""
    counts = inputs.get("batch_num_images")
    return [True] * pictures if counts is None else [n == 1 for n in counts.tolist() for _ in range(n)]
