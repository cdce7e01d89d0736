"""What the host knows of a call before the vision tower runs: made once, from config, sizes and token ids alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from herovlm.adapters import positions, refuse
from herovlm.adapters.positions import Prompt
from herovlm.geometry import Geometry

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from herovlm.adapters.base import Adapter


@dataclass(frozen=True, eq=False)
class Plan:
    """Prompts and the geometry of their images, in prompt order; host only."""

    inputs: Mapping[str, Any]  # as they came; image_sizes are on the host
    prompt: Prompt
    images: tuple[Geometry, ...]
    rows: tuple[int, ...]  # the prompt that each image belongs to

    @cached_property
    def places(self) -> tuple[Tensor, ...]:
        """The columns of each image's placeholders: (positions,) int64 each."""
        return torch.split(self.prompt.placeholders[:, 1], [image.positions for image in self.images])

    def take(self, rows: Sequence[int]) -> tuple[Plan, list[int]]:
        """Plan for some of the prompts, any of them more than once; and which of the images theirs are."""
        order, prompt = list(rows), self.prompt
        taken = [(new, i) for new, row in enumerate(order) for i, own in enumerate(self.rows) if own == row]
        some = replace(prompt, ids=prompt.ids[order], mask=prompt.mask[order])
        device = self.inputs["input_ids"].device
        tokens = {"input_ids": some.ids.to(device), "attention_mask": some.mask.to(device)}
        images = [i for _, i in taken]
        return Plan(tokens, some, tuple(self.images[i] for i in images), tuple(new for new, _ in taken)), images

    def short_columns(self, counts: Sequence[int]) -> list[Tensor]:
        """List columns that are left when each image keeps so many positions, whichever: all placeholders are alike.

        More than there were (newlines that the untouched model does not send) repeat the last one.
        """
        visual = [
            place[torch.arange(count).clamp(max=len(place) - 1)]
            for place, count in zip(self.places, counts, strict=True)
        ]
        return positions.columns(self.prompt, self.rows, visual)


def plan_of(family: Adapter, model: PreTrainedModel, inputs: Mapping[str, Any]) -> Plan:
    """Plan a call: check its inputs, and find where every image stands.

    Raises:
        InputsError: inputs that do not fit the model or each other.
        UnsupportedError: inputs that cannot be shortened rightly.
    """
    refuse.not_a_mapping(inputs)
    pictures = inputs.get("pixel_values") is not None
    if pictures:
        inputs = refuse.inputs(model, inputs)
    else:
        refuse.hidden(inputs)
        refuse.tokens(inputs)
    prompt = positions.prompt_of(inputs, model.config)
    refuse.prompts(prompt.mask)
    if not pictures:
        refuse.no_pictures(len(prompt.placeholders))
        return Plan(inputs, prompt, (), ())
    images = family.layouts(model, inputs)
    rows = positions.samples_of(prompt, [image.positions for image in images])
    return Plan(inputs, prompt, tuple(images), tuple(rows))
