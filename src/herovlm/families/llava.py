"""LLaVA-1.5: one tile an image, in raster order, without newlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from transformers import PreTrainedModel

from herovlm.families.base import Family
from herovlm.families.packing import plain
from herovlm.geometry import Geometry, remembered
from herovlm.prompt.positions import Prompt


class Llava(Family):
    """LLaVA-1.5 in transformers, any language model behind it."""

    name: ClassVar[str] = "LLaVA-1.5"
    model_types: ClassVar[tuple[str, ...]] = ("llava",)
    example: ClassVar[str] = "llava-hf/llava-1.5-7b-hf"
    shrinks: ClassVar[bool] = True

    def layouts(
        self, model: PreTrainedModel, inputs: Mapping[str, Any], prompt: Prompt | None = None
    ) -> list[Geometry]:
        """Every image is one tile."""
        return self.geometry(model, [(0, 0)] * len(inputs["pixel_values"]))

    def geometry(self, model: PreTrainedModel, sizes: Sequence[Sequence[int]]) -> list[Geometry]:
        """Find one tile, whatever the size."""
        side = self.side(model)
        return [remembered(("one tile", side), lambda: plain(side)) for _ in sizes]
