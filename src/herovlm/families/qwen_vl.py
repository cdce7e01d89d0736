"""Qwen-VL, from Qwen2-VL to Qwen3.5: pictures at their own resolution, 2 x 2 patches a position, M-RoPE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from herovlm.errors import InputsError, ModelError, UnsupportedError
from herovlm.families import merging, packing, processors
from herovlm.families.base import Family, by_prompt
from herovlm.geometry import Geometry
from herovlm.prompt.positions import Prompt
from herovlm.seams import refuse
from herovlm.towers.base import Found, Tower
from herovlm.towers.qwen_vit import QwenVit


class QwenVL(Family):
    """Qwen2.5-VL in transformers; what its relatives share.

    There are no tiles and no overview: the positions of a picture, rows x columns, are cut into square windows
    (`packing.windowed`) that play the tiles' part, each of whole windows of the tower where it has some.  The model
    reads the positions row by row, whatever the windows.  A position is 2 x 2 patches: what is recorded of patches is
    their mean, and a state of a position is what the merger reads, those of its patches in one.
    """

    name: ClassVar[str] = "Qwen2.5-VL"
    example: ClassVar[str] = "Qwen/Qwen2.5-VL-7B-Instruct"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl",)
    overviews: ClassVar[bool] = False
    towers: ClassVar[tuple[type[Tower], ...]] = (QwenVit,)
    vision: ClassVar[tuple[str, ...]] = ("pixel_values", "image_grid_thw")
    sent: ClassVar[tuple[str, ...]] = ("image_grid_thw",)
    positions: ClassVar[tuple[str, ...]] = ("original",)
    numbered: ClassVar[str] = (
        "its language model numbers a picture by row and column (M-RoPE), which a short prompt numbered 0, 1, ... loses"
    )

    def checked(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Check patches and grids against each other, and bring the grids to the host."""
        pixels, vision = inputs["pixel_values"], model.config.vision_config
        grids, patch = _grids(inputs.get("image_grid_thw"), vision.spatial_merge_size), _numbers(vision)
        refuse.legible("pixel_values", pixels)
        if not pixels.dtype.is_floating_point or tuple(pixels.shape) != (int(grids.prod(1).sum()), patch):
            raise InputsError(
                f"pixel_values of shape {tuple(pixels.shape)} and {pixels.dtype} are not what image_grid_thw tells: "
                f"{int(grids.prod(1).sum()):,} patches of {patch} numbers, floating; give what the processor returned"
            )
        if inputs.get("mm_token_type_ids") is None and inputs.get("position_ids") is None:
            raise InputsError(
                "mm_token_type_ids are missing; without them this model numbers a picture as if it were text: give all "
                "that the processor returned"
            )
        return {**inputs, "image_grid_thw": grids}

    def check(self, model: PreTrainedModel) -> int:
        """Check the tower, and that no layer of the language model counts columns, which will be missing.

        Raises:
            ModelError: a tower that cannot be used, or sliding windows.
        """
        if "sliding_attention" in (getattr(model.config.get_text_config(), "layer_types", None) or ()):
            raise ModelError(
                f"this {self.name} has layers with a sliding window (use_sliding_window=True), which counts columns: "
                "with columns missing it would slide wrongly"
            )
        return super().check(model)

    def layouts(
        self, model: PreTrainedModel, inputs: Mapping[str, Any], prompt: Prompt | None = None
    ) -> list[Geometry]:
        """Read the positions of each image off its grid of patches."""
        merged, grids = model.config.vision_config.spatial_merge_size, inputs["image_grid_thw"].tolist()
        runs = len(grids) if prompt is None else _runs(prompt.ids == prompt.image)
        if runs != len(grids):
            raise InputsError(
                f"input_ids hold {runs} run(s) of image placeholders, but image_grid_thw are of {len(grids)} image(s); "
                "this model numbers a picture run by run, with text between two: make both with its processor"
            )
        return [self._cut(model, rows // merged, cols // merged) for _, rows, cols in grids]

    def geometry(self, model: PreTrainedModel, sizes: Sequence[Sequence[int]]) -> list[Geometry]:
        """Find how the image processor scales pictures of some sizes.

        How few and how many pixels it makes of a picture is read from the processor beside the config; where there is
        none, those of its class count.
        """
        vision, (fewest, most) = model.config.vision_config, _pixels(model.config)
        cell = vision.patch_size * vision.spatial_merge_size
        try:
            scaled = [smart_resize(*size, factor=cell, min_pixels=fewest, max_pixels=most) for size in sizes]
        except ValueError as error:
            raise InputsError(f"the processor of this model takes no such picture: {error}") from error
        return [self._cut(model, high // cell, wide // cell) for high, wide in scaled]

    def _cut(self, model: PreTrainedModel, rows: int, columns: int) -> Geometry:
        """Cut a picture of so many positions into windows."""
        vision = model.config.vision_config
        own = getattr(vision, "window_size", 0) // (vision.patch_size * vision.spatial_merge_size) or 1
        return packing.windowed(model.config, rows, columns, own)

    def position_ids(
        self, model: PreTrainedModel, inputs: Mapping[str, Any], prompt: Prompt, images: Sequence[Geometry]
    ) -> Tensor:
        """Ask the model how it numbers the untouched prompt: (3, B, L), by time, row and column.

        Raises:
            UnsupportedError: a prompt ends in a picture, and generate() numbers the answer from its last position.
        """
        last = prompt.ids.shape[1] - 1 - (prompt.mask != 0).int().flip(1).argmax(1, keepdim=True)
        if bool((prompt.ids.gather(1, last) == prompt.image).any()):
            raise UnsupportedError(
                f"a prompt that ends in a picture, with {self.name}: the answer would be numbered from what is kept of "
                "it; put text behind it, as the chat template does"
            )
        merged = model.config.vision_config.spatial_merge_size
        grids = [[1, merged * len(one.counts.rows), merged * len(one.counts.columns)] for one in images]
        numbers: Tensor = model.base_model.get_rope_index(
            prompt.ids,
            mm_token_type_ids=(prompt.ids == prompt.image).int(),
            image_grid_thw=torch.tensor(grids, device=prompt.ids.device),
            attention_mask=prompt.mask,
        )[0]
        return numbers

    def made_up(self, model: PreTrainedModel, size: Sequence[int], random: torch.Generator) -> dict[str, Tensor]:
        """Make random patches of one picture (height, width), and its grid, as a processor would return them."""
        (told,), merged = self.geometry(model, [size]), model.config.vision_config.spatial_merge_size
        grid = torch.tensor([[1, merged * len(told.counts.rows), merged * len(told.counts.columns)]])
        patches = torch.randn(int(grid.prod()), _numbers(model.config.vision_config), generator=random)
        return {"pixel_values": patches, "image_grid_thw": grid}

    def sees_through(self, model: PreTrainedModel) -> Tower:
        """Return how its vision tower is read."""
        return QwenVit()

    def tower(self, model: PreTrainedModel) -> nn.Module:
        """Return the vision tower."""
        tower = getattr(model.base_model, "visual", None)
        if not isinstance(tower, nn.Module):
            raise ModelError(f"{type(model).__name__} has no vision tower")
        return tower

    def projector(self, model: PreTrainedModel) -> nn.Module:
        """Return the merger, at the end of the tower."""
        merger: Any = self.tower(model).merger
        projector: nn.Module = merger
        return projector

    def feature_blocks(self, model: PreTrainedModel, inputs: Mapping[str, Any], depth: int) -> tuple[int, ...]:
        """Features are taken behind the last block."""
        return (depth,)

    def pooled(self, model: PreTrainedModel, values: Tensor, axis: int) -> Tensor:
        """Take the mean of the patches of each position, which stand side by side."""
        return merging.groups(values, axis, model.config.vision_config.spatial_merge_size**2)

    def before(self, model: PreTrainedModel, states: Sequence[Tensor], found: Found) -> Tensor:
        """Put the states of the patches of each position behind each other, in the picture's order: (1, n, 4 C)."""
        patches, back = model.config.vision_config.spatial_merge_size**2, found["back"].get(0)
        given = torch.cat(list(states))
        grouped = given.reshape(len(given) // patches, -1)
        return (grouped if back is None else grouped[back.to(grouped.device)])[None]

    def flat(self, output: Any, projected: Sequence[Tensor]) -> Tensor:
        """Return the encoder's own features, which are in the picture's order."""
        return torch.cat(list(output.pooler_output))[None]

    def project(self, model: PreTrainedModel, hidden: Tensor) -> Tensor:
        """Merge states (n, 4 C)."""
        return super().project(model, hidden.view(len(hidden) * model.config.vision_config.spatial_merge_size**2, -1))


class Qwen2VL(QwenVL):
    """Qwen2-VL in transformers, whose tower has no windows."""

    name: ClassVar[str] = "Qwen2-VL"
    example: ClassVar[str] = "Qwen/Qwen2-VL-7B-Instruct"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_vl",)


class Qwen3VL(QwenVL):
    """Qwen3-VL in transformers, with experts or without: its first layers read features of earlier blocks besides."""

    name: ClassVar[str] = "Qwen3-VL"
    example: ClassVar[str] = "Qwen/Qwen3-VL-8B-Instruct"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_vl", "qwen3_vl_moe")

    def beside(self, output: Any) -> list[Tensor]:
        """List the features that are added behind the first layers, in the order of those layers."""
        return [torch.cat(list(layer))[None] for layer in output.deepstack_features]

    def encoded(
        self, features: Sequence[Tensor], beside: Sequence[Sequence[Tensor]], rows: Sequence[int]
    ) -> dict[str, Any]:
        """Put those features beside the others, layer by layer, each cut as they are."""
        layers = [by_prompt(layer, rows) for layer in zip(*beside, strict=True)]
        pooled = by_prompt(features, rows)
        return {"image": BaseModelOutputWithDeepstackFeatures(pooler_output=pooled, deepstack_features=layers)}


class Qwen35(QwenVL):
    """Qwen3.5 in transformers, with experts or without: three in four layers of its language model are linear.

    Masking a position is not dropping it there: a linear layer's state still decays at a masked position.
    """

    name: ClassVar[str] = "Qwen3.5"
    example: ClassVar[str] = "Qwen/Qwen3.5-27B"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_5", "qwen3_5_moe")


def _grids(grids: Any, merged: int) -> Tensor:
    """Check grids of patches, (images, 3) times, rows and columns; bring them to the host."""
    if grids is None:
        raise InputsError("image_grid_thw is missing; the processor of this model gives it beside pixel_values")
    refuse.legible("image_grid_thw", grids)
    found: Tensor = grids.cpu()
    whole = not found.dtype.is_floating_point and not found.dtype.is_complex and found.dtype is not torch.bool
    if not whole or found.ndim != 2 or found.shape[1] != 3 or bool((found < 1).any()):
        raise InputsError(
            "image_grid_thw must be whole numbers from 1 on, (images, 3): times, rows and columns of patches"
        )
    if bool((found[:, 0] != 1).any()) or bool((found[:, 1:] % merged != 0).any()):
        raise InputsError(
            f"image_grid_thw {found.tolist()}: an image has one time, and rows and columns in multiples of {merged}"
        )
    return found


def _numbers(vision: Any) -> int:
    """Count the numbers of a patch, all its channels and times."""
    return int(vision.in_channels * vision.temporal_patch_size * vision.patch_size**2)


def _runs(marked: Tensor) -> int:
    """Count the runs of marked columns of all rows (B, L)."""
    begins = marked.clone()
    begins[:, 1:] &= ~marked[:, :-1]
    return int(begins.sum())


def _pixels(config: Any) -> tuple[int, int]:
    """Read how few and how many pixels the image processor beside a config makes of a picture."""
    processor: Any = Qwen2VLImageProcessorPil.from_dict(dict(processors.settings(config)))
    return int(processor.size.shortest_edge), int(processor.size.longest_edge)
