"""Mistral 3: pictures at their own resolution, rows closed by text tokens, merged patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.image_utils import ChannelDimension
from transformers.models.pixtral.image_processing_pil_pixtral import get_resize_output_image_size

from herovlm.errors import InputsError, UnsupportedError
from herovlm.families import merging, packing, processors
from herovlm.families.base import Family
from herovlm.geometry import Geometry
from herovlm.prompt.positions import Prompt
from herovlm.seams import refuse
from herovlm.towers.base import Found, Tower
from herovlm.towers.pixtral import Pixtral


class Mistral3(Family):
    """Mistral Small 3.1 and later with Pixtral's tower, in transformers.

    There are no tiles and no overview: the positions of a picture, rows x columns, are cut into square windows
    (`packing.windowed`) that play the tiles' part.  The model reads the positions row by row, whatever the windows;
    [IMG_BREAK] behind a row and [IMG_END] behind the last are text and stay, also behind a row of which nothing is
    kept.  A position is merged patches: what is recorded of patches is their mean, a state is what the merger reads of
    them.
    """

    name: ClassVar[str] = "Mistral 3"
    example: ClassVar[str] = "mistralai/Mistral-Small-3.1-24B-Instruct-2503"
    model_types: ClassVar[tuple[str, ...]] = ("mistral3",)
    overviews: ClassVar[bool] = False
    towers: ClassVar[tuple[type[Tower], ...]] = (Pixtral,)
    vision: ClassVar[tuple[str, ...]] = ("pixel_values", "image_sizes", "vision_feature_layer")

    def checked(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Check padded pictures, (images, 3, height, width), against their sizes; bring these to the host."""
        pixels, sizes = inputs["pixel_values"], refuse.sizes_of(inputs.get("image_sizes"))
        refuse.legible("pixel_values", pixels)
        high, wide = pixels.shape[-2:] if pixels.ndim > 1 else (0, 0)
        refuse.tiles(pixels, high, wide, axes=(4,))
        cell = _cell(model.config)
        if sizes is None:
            raise InputsError("image_sizes are missing; the processor of this model gives them beside pixel_values")
        most = torch.tensor(pixels.shape[-2:])
        if len(sizes) != len(pixels) or bool((sizes % cell != 0).any()) or bool((sizes > most).any()):
            raise InputsError(
                f"image_sizes {sizes.tolist()} do not fit pixel_values of shape {tuple(pixels.shape)}: one height and "
                f"width a picture, within its pixels and in multiples of {cell}; give what the processor returned"
            )
        if len(sizes) == 1 and int(sizes.prod()) == cell**2:
            raise UnsupportedError(
                f"a picture of one position ({cell} x {cell} pixels) alone in a call fails in transformers; "
                "give a larger picture"
            )
        return {**inputs, "image_sizes": sizes}

    def layouts(
        self, model: PreTrainedModel, inputs: Mapping[str, Any], prompt: Prompt | None = None
    ) -> list[Geometry]:
        """Read the positions of each image off its size."""
        cell = _cell(model.config)
        return [
            packing.windowed(model.config, high // cell, wide // cell) for high, wide in inputs["image_sizes"].tolist()
        ]

    def geometry(self, model: PreTrainedModel, sizes: Sequence[Sequence[int]]) -> list[Geometry]:
        """Find how the image processor scales pictures of some sizes.

        How long it makes them at the most is read from the processor beside the config; where there is none, as long
        as the tower was made for.
        """
        cell = _cell(model.config)
        told = processors.settings(model.config).get("size", {"longest_edge": model.config.vision_config.image_size})
        longest = told.get("longest_edge")
        most = (longest, longest) if longest else (told["height"], told["width"])
        found = []
        for size in sizes:
            blank = np.broadcast_to(np.uint8(0), (3, *size))
            high, wide = get_resize_output_image_size(blank, most, (cell, cell), ChannelDimension.FIRST)
            if not high or not wide:
                raise InputsError(f"the processor of this model takes no picture as narrow as {size[0]} x {size[1]}")
            found.append(packing.windowed(model.config, high // cell, wide // cell))
        return found

    def made_up(self, model: PreTrainedModel, size: Sequence[int], random: torch.Generator) -> dict[str, Tensor]:
        """Make random pixels of one picture (height, width), and its size, as a processor would return them."""
        (told,), cell = self.geometry(model, [size]), _cell(model.config)
        high, wide = len(told.counts.rows) * cell, len(told.counts.columns) * cell
        pixels = torch.randn((1, 3, high, wide), generator=random)
        return {"pixel_values": pixels, "image_sizes": torch.tensor([[high, wide]])}

    def written(self, model: PreTrainedModel, geometry: Geometry) -> Tensor:
        """Return the tokens of one picture, some token or other behind each row."""
        image, counts = int(model.config.image_token_id), geometry.counts
        return torch.tensor(([image] * len(counts.columns) + [int(image == 0)]) * len(counts.rows))

    def sees_through(self, model: PreTrainedModel) -> Tower:
        """Return how its vision tower is read."""
        super().sees_through(model)
        return Pixtral(model.config.spatial_merge_size)

    def pooled(self, model: PreTrainedModel, values: Tensor, axis: int) -> Tensor:
        """Take the mean of the patches of each position, which stand side by side."""
        return merging.groups(values, axis, model.config.spatial_merge_size**2)

    def before(self, model: PreTrainedModel, states: Sequence[Tensor], found: Found) -> Tensor:
        """Put the states of the patches of each position behind each other: (1, n, C times those patches)."""
        given = torch.cat(list(states))
        grouped = given[found["groups"][0].to(given.device)]
        return grouped.view(1, -1, given.shape[-1] * model.config.spatial_merge_size**2)

    def flat(self, output: Any, projected: Sequence[Tensor]) -> Tensor:
        """Return the features of all pictures, which the projector gives behind each other."""
        return torch.cat(list(projected))[None]

    @torch.no_grad()
    def project(self, model: PreTrainedModel, hidden: Tensor) -> Tensor:
        """Project states as `before` gives them, (n, ...): as the patches of a picture of one row of positions."""
        merged, patch = model.config.spatial_merge_size, model.config.vision_config.patch_size
        rows = hidden.view(len(hidden), merged, merged, -1).transpose(0, 1)  # (merged, n, merged, C)
        size = torch.tensor([[merged * patch, len(hidden) * merged * patch]])
        projected: Tensor = self.projector(model)(rows.reshape(-1, rows.shape[-1]), size)
        return projected


def _cell(config: Any) -> int:
    """Pixels on a side of a position."""
    return int(config.vision_config.patch_size * config.spatial_merge_size)
