"""Who looks at the pictures: transformers' own model without its language model's layers, and herovlm as it is.

So what is kept is chosen by the same code on the same tower as in one process, whatever the method and the family.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel
from transformers.utils import logging

from herovlm import registry
from herovlm.engines.vllm.asked import Asked, Settings
from herovlm.errors import ModelError
from herovlm.families.base import Family
from herovlm.view import see

TOGETHER = 40  # tiles looked at at once: memory was sized for pictures that keep much, and more of them may come


@dataclass(frozen=True)
class Eyes:
    """Tower and projector of a model, and what the engine was started with."""

    model: PreTrainedModel
    settings: Settings

    @property
    def family(self) -> Family:
        """The model's."""
        return registry.family(self.model)

    @torch.no_grad()
    def look(self, pictures: Sequence[Mapping[str, Tensor]], asked: Sequence[Asked]) -> list[Tensor]:
        """Look at pictures of any requests together: what the language model reads of each, (kept positions, D).

        Args:
            pictures: of each, what the model's processor makes of it alone: pixels, and its tokens as "input_ids" (n,).
            asked: of each, what its request says.

        Raises:
            HeroError: as `herovlm.drop`.
        """
        found: dict[int, Tensor] = {}
        for unit in (0, 1):  # shares, and numbers of tokens
            same = [i for i, one in enumerate(asked) if self.settings.budget(one)[unit] is not None]
            for own in parts(same, [tiles(pictures[i]) for i in same], TOGETHER):
                request = self.settings.request([asked[i] for i in own])
                view = see(self.model, joined([pictures[i] for i in own]), request)
                found |= dict(zip(own, view.choose(request).features(), strict=True))
        return [found[i] for i in range(len(asked))]


def load(
    name: str, settings: Settings, *, dtype: torch.dtype, device: torch.device, revision: str | None = None
) -> Eyes:
    """Load a model without the layers of its language model, and look at a picture with it.

    Raises:
        HeroError: it cannot be used, or not for what the engine was started with.
    """
    config = copy.deepcopy(AutoConfig.from_pretrained(name, revision=revision))
    config.text_config.num_hidden_layers = 0
    if getattr(config.text_config, "layer_types", None):
        config.text_config.layer_types = []
    for quantised in (config, config.text_config):
        if hasattr(quantised, "quantization_config"):
            del quantised.quantization_config
    talk = logging.get_verbosity()
    logging.set_verbosity_error()  # it would list the weights that are left out
    try:
        with torch.device("cpu"):
            how = {"config": config, "dtype": dtype, "revision": revision, "output_loading_info": True}
            model, told = AutoModelForImageTextToText.from_pretrained(name, **how)
    finally:
        logging.set_verbosity(talk)
    gone = sorted(key for key in told["missing_keys"] if "language_model" not in key and "lm_head" not in key)
    if gone:
        raise ModelError(
            f"{name} has no weights that transformers can read for {gone[0]} and {len(gone) - 1} more of its vision "
            "tower or projector; herovlm serves checkpoints whose tower is not quantised"
        )
    network: Any = model.base_model
    network.language_model.to("meta")  # its table of words is vLLM's
    model.lm_head.to("meta")
    for name, part in network.named_children():
        if name != "language_model":
            part.to(device)
    for own in network.parameters(recurse=False):
        own.data = own.data.to(device)
    if settings.clip is not None:
        model.config.herovlm_clip = settings.clip
    eyes = Eyes(model.eval(), settings)
    eyes.look([made_up(model, device)], [Asked("What is this?")])  # what cannot be, cannot be now
    return eyes


def made_up(model: PreTrainedModel, device: torch.device) -> dict[str, Tensor]:
    """Make noise of several tiles, as the model's processor would return it."""
    family = registry.family(model)
    side = model.config.vision_config.image_size
    high, wide = (side, side) if isinstance(side, int) else side
    size = (2 * high, 2 * wide)
    (geometry,) = family.geometry(model, [size])
    made = family.made_up(model, size, torch.Generator().manual_seed(0))
    pixels = {
        name: value.to(device, model.dtype) if name.startswith("pixel_") else value for name, value in made.items()
    }
    return {"input_ids": family.written(model, geometry), **pixels}


def tiles(picture: Mapping[str, Tensor]) -> int:
    """Count the tiles of a picture."""
    return int(picture["pixel_values"].shape[:-3].numel())


def parts(pictures: Sequence[int], tiles: Sequence[int], most: int) -> list[list[int]]:
    """Cut a list of pictures into parts of at most so many tiles, all padded to the most of the part.

    A picture that has more is a part of its own.
    """
    found: list[list[int]] = []
    widest = 0
    for picture, own in zip(pictures, tiles, strict=True):
        widest = max(widest, own)
        if not found or widest * (len(found[-1]) + 1) > most:
            found.append([])
            widest = own
        found[-1].append(picture)
    return found


def joined(pictures: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Put pictures into one call, one prompt each, as the model's processor would.

    Pixels lie behind each other on the first axis; those with tiles on an axis of their own are padded to the most.
    """
    ids = [one["input_ids"] for one in pictures]
    longest = max(map(len, ids))
    rows = [torch.nn.functional.pad(own, (longest - len(own), 0)) for own in ids]
    masks = [torch.nn.functional.pad(torch.ones_like(own), (longest - len(own), 0)) for own in ids]
    made = {"input_ids": torch.stack(rows), "attention_mask": torch.stack(masks)}
    for name in pictures[0]:
        if name == "input_ids":
            continue
        values = [one[name] for one in pictures]
        if values[0].ndim == 5:  # (1, T, 3, height, width)
            most = max(value.shape[1] for value in values)
            values = [torch.nn.functional.pad(v, (0, 0, 0, 0, 0, 0, 0, most - v.shape[1])) for v in values]
        made[name] = torch.cat(values)
    return made
