"""LLaVA-1.5: one tile an image, in raster order, without newlines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from herovlm.adapters.base import Adapter
from herovlm.adapters.packing import Layout, plain


class Llava(Adapter):
    """LLaVA-1.5 in transformers, any language model behind it."""

    family: ClassVar[str] = "LLaVA-1.5"
    model_types: ClassVar[tuple[str, ...]] = ("llava",)

    def layouts(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> list[Layout]:
        """Every image is one tile."""
        return [plain(self.side(model)) for _ in inputs["pixel_values"]]

    def tiles(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> Tensor:
        """Return the images themselves."""
        pixels: Tensor = inputs["pixel_values"]
        return pixels
