"""Shorten the prompt: which columns of input_ids stay, and where the padding goes again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from herovlm.adapters.packing import is_sent
from herovlm.errors import InputsError
from herovlm.types import Seen

GATHERED = {"labels": -100, "token_type_ids": 0, "mm_token_type_ids": 0}  # other inputs a token long, and their filler


@dataclass(frozen=True)
class Prompt:
    """The token part of model inputs and the places of its images."""

    ids: Tensor  # (B, L)
    mask: Tensor  # (B, L)
    image: int  # the placeholder's token id
    pad: int  # token id for new padding
    left: bool  # padding side

    @property
    def placeholders(self) -> Tensor:
        """Row and column of every image placeholder, in the order of the features: (P, 2)."""
        return (self.ids == self.image).nonzero()

    @property
    def full_positions(self) -> Tensor:
        """Positions that generate() gives to the untouched prompt: (B, L)."""
        return (self.mask.long().cumsum(-1) - 1).masked_fill(self.mask == 0, 0)

    def length(self, inputs: Mapping[str, Any]) -> int:
        """Positions that the longest untouched prompt takes, by numbers of the caller's own if there are any."""
        given = inputs.get("position_ids")
        return int((self.full_positions if given is None else given).max()) + 1


def prompt_of(inputs: Mapping[str, Any], config: Any) -> Prompt:
    """Read ids, mask, padding side and padding token.

    Raises:
        InputsError: a batch has padding tokens but no attention_mask.
    """
    ids: Tensor = inputs["input_ids"]
    image = config.image_token_id
    mask = inputs.get("attention_mask")
    pad = _pad_token(ids, mask, config)
    if mask is None:
        if len(ids) > 1 and bool((ids[:, [0, -1]] == pad).any()):
            raise InputsError(f"input_ids are padded (token {pad}) but there is no attention_mask; pass both")
        mask = torch.ones_like(ids)
    left = bool((mask[:, 0] == 0).any()) or not bool((mask[:, -1] == 0).any())
    return Prompt(ids, mask, image, pad, left)


def _pad_token(ids: Tensor, mask: Tensor | None, config: Any) -> int:
    """Take the padding token in use, else the config's; never the image placeholder, as the model counts those."""
    used = ids[mask == 0] if mask is not None else ids[:0]
    text = config.get_text_config()
    candidates = [*used.flatten()[:1].tolist(), text.pad_token_id, getattr(config, "pad_token_id", None), 0, 1]
    return next(int(token) for token in candidates if token is not None and token != config.image_token_id)


def samples_of(prompt: Prompt, counts: Sequence[int]) -> list[int]:
    """Return the row of the batch that each image belongs to, given the visual positions of each image.

    Raises:
        InputsError: the placeholders do not fit the images.
    """
    rows = prompt.placeholders[:, 0]
    if len(rows) != sum(counts):
        raise InputsError(
            f"input_ids hold {len(rows):,} image placeholders (token {prompt.image}), but {len(counts)} image(s) need "
            f"{sum(counts):,} ({', '.join(f'{n:,}' for n in counts)}); make input_ids and pixel_values with the "
            "processor of this model (its patch_size and vision_feature_select_strategy must be set)"
        )
    samples = []
    for image, span in enumerate(torch.split(rows, list(counts))):
        if span.numel() and bool((span != span[0]).any()):
            raise InputsError(f"image {image + 1} would spread over two prompts; the order of the images is wrong")
        samples.append(int(span[0]) if span.numel() else 0)
    return samples


def columns(prompt: Prompt, seen: Sequence[Seen], slots: Sequence[Tensor]) -> list[Tensor]:
    """List the columns of each row that stay, in order; `slots` are the kept slots of each image.

    A newline of the padded canvas that the untouched model does not send repeats the placeholder before it.
    """
    first = (prompt.mask != 0).long().argmax(-1)
    last = prompt.mask.shape[1] - 1 - (prompt.mask != 0).long().flip(-1).argmax(-1)
    column = torch.arange(prompt.ids.shape[1], device=prompt.ids.device)
    text = (column >= first[:, None]) & (column <= last[:, None]) & (prompt.ids != prompt.image)
    stay: list[list[Tensor]] = [[column[row]] for row in text]
    places = torch.split(prompt.placeholders, [s.positions for s in seen])
    for place, image, kept in zip(places, seen, slots, strict=True):
        if image.resized is None:
            index = (is_sent(image.grid, image.valid).cumsum(0) - 1).clamp(min=0)[kept].to(place.device)
        else:  # a smaller picture stands in the first columns of the one that came
            index = torch.arange(len(kept), device=place.device)
        stay[int(place[0, 0])].append(place[index, 1])
    return [torch.cat(parts).sort().values for parts in stay]


def gather(values: Tensor, stay: Sequence[Tensor], fill: int, left: bool) -> Tensor:
    """Keep the given columns of each row of (B, L) and pad to the longest row, on the same side as before."""
    length = max(len(cols) for cols in stay)
    short = values.new_full((len(stay), length), fill)
    for row, cols in enumerate(stay):
        span = slice(length - len(cols), length) if left else slice(0, len(cols))
        short[row, span] = values[row, cols.to(values.device)]
    return short


def shorten(inputs: Mapping[str, Any], prompt: Prompt, stay: Sequence[Tensor], original: bool) -> dict[str, Any]:
    """Gather everything that is as long as the prompt; `original` also gathers the positions."""
    short = dict(inputs)
    short["input_ids"] = gather(prompt.ids, stay, prompt.pad, prompt.left)
    short["attention_mask"] = gather(prompt.mask, stay, 0, prompt.left)
    for name, fill in GATHERED.items():
        if isinstance(inputs.get(name), Tensor):
            short[name] = gather(inputs[name], stay, fill, prompt.left)
    positions = short.pop("position_ids", None)
    if original:
        positions = prompt.full_positions if positions is None else positions
        short["position_ids"] = gather(positions, stay, 0, prompt.left)
        # Gaps in the positions look like packed sequences to transformers when there is no cache (a silently wrong
        # mask); the key also turns `generate(**short, use_cache=False)` into a TypeError.
        short["use_cache"] = True
    return short
