"""Gemma 3: pictures of one tile, their patches pooled, positions that see each other both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from herovlm.errors import ModelError
from herovlm.families import merging, packing
from herovlm.families.base import Family, in_one
from herovlm.geometry import Geometry, remembered
from herovlm.prompt.positions import Prompt
from herovlm.seams import refuse
from herovlm.towers.base import Found, Tower
from herovlm.towers.siglip import Siglip


class Gemma3(Family):
    """Gemma 3 with its vision tower, in transformers.

    Each block of placeholders is a picture of one tile.  So is each crop of pan and scan: nothing but the words between
    blocks says which picture it is of.  A position is the mean of a block of patches, and so is what is recorded of
    them.  Positions of a block see each other both ways by token_type_ids, which are shortened with the prompt.
    """

    name: ClassVar[str] = "Gemma 3"
    example: ClassVar[str] = "google/gemma-3-4b-it"
    model_types: ClassVar[tuple[str, ...]] = ("gemma3",)
    towers: ClassVar[tuple[type[Tower], ...]] = (Siglip,)
    vision: ClassVar[tuple[str, ...]] = ("pixel_values",)

    def checked(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Check the tiles of all pictures, which lie behind each other."""
        side = model.config.vision_config.image_size
        refuse.tiles(inputs["pixel_values"], side, side, axes=(4,))
        return dict(inputs)

    def layouts(
        self, model: PreTrainedModel, inputs: Mapping[str, Any], prompt: Prompt | None = None
    ) -> list[Geometry]:
        """Every tile is a picture."""
        return self.geometry(model, [(0, 0)] * len(inputs["pixel_values"]))

    def geometry(self, model: PreTrainedModel, sizes: Sequence[Sequence[int]]) -> list[Geometry]:
        """Find one tile, whatever the size: pan and scan is asked for call by call."""
        side = self.side(model)
        return [remembered(("one tile", side), lambda: packing.plain(side)) for _ in sizes]

    def kinds(self, prompt: Prompt) -> dict[str, Tensor]:
        """Mark the placeholders, as the processor does."""
        return {"token_type_ids": (prompt.ids == prompt.image).long()}

    def side(self, model: PreTrainedModel) -> int:
        """Count the positions on a side of a tile."""
        vision, side = model.config.vision_config, isqrt(model.config.mm_tokens_per_image)
        patches = vision.image_size // vision.patch_size
        if side**2 != model.config.mm_tokens_per_image or patches % side:
            raise ModelError(
                f"mm_tokens_per_image={model.config.mm_tokens_per_image} are no square that divides {patches} x "
                f"{patches} patches"
            )
        return side

    def pooled(self, model: PreTrainedModel, values: Tensor, axis: int) -> Tensor:
        """Take the mean of the patches that the projector takes the mean of."""
        return merging.blocks(values, axis, isqrt(values.shape[axis]) // self.side(model))

    def before(self, model: PreTrainedModel, states: Sequence[Tensor], found: Found) -> Tensor:
        """Pool the states as the projector does."""
        return self.pooled(model, torch.cat(list(states)), 1)

    def project(self, model: PreTrainedModel, hidden: Tensor) -> Tensor:
        """Project pooled states (n, C): what the projector does behind its pooling."""
        projector: Any = self.projector(model)
        projected: Tensor = projector.mm_soft_emb_norm(hidden) @ projector.mm_input_projection_weight
        return projected.detach()

    def feature_blocks(self, model: PreTrainedModel, inputs: Mapping[str, Any], depth: int) -> tuple[int, ...]:
        """Features are taken behind the last block."""
        return (depth,)

    def encoded(
        self, features: Sequence[Tensor], beside: Sequence[Sequence[Tensor]], rows: Sequence[int]
    ) -> dict[str, Any]:
        """Stay a tensor."""
        return in_one(features, rows)
