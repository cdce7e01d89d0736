"""The token side of a call, on the host: prompts, where their images stand, and which columns stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from herovlm.errors import InputsError
from herovlm.seams import offload

KINDS = ("token_type_ids", "mm_token_type_ids")  # inputs that say which tokens stand for an image
GATHERED = {"labels": -100, **dict.fromkeys(KINDS, 0)}  # other inputs a token long, and their filler


@dataclass(frozen=True, eq=False)
class Prompt:
    """The token part of model inputs and the places of its images, copied to the host once a call."""

    ids: Tensor  # (B, L)
    mask: Tensor  # (B, L)
    image: int  # the placeholder's token id
    pad: int  # token id for new padding
    left: bool  # padding side

    @cached_property
    def placeholders(self) -> Tensor:
        """Row and column of every image placeholder, in the order of the features: (P, 2)."""
        return (self.ids == self.image).nonzero()

    @cached_property
    def full_positions(self) -> Tensor:
        """Positions that generate() gives to the untouched prompt: (B, L)."""
        return (self.mask.long().cumsum(-1) - 1).masked_fill(self.mask == 0, 0)

    @cached_property
    def text(self) -> list[Tensor]:
        """Columns of each row that are neither padding at its ends nor placeholders, ascending."""
        real = self.mask != 0
        within = (real.cumsum(-1) > 0) & (real.flip(-1).cumsum(-1).flip(-1) > 0)
        return [row.nonzero().flatten() for row in within & (self.ids != self.image)]

    def length(self, inputs: Mapping[str, Any]) -> int:
        """Positions that the longest untouched prompt takes, by numbers of the caller's own if there are any."""
        given = inputs.get("position_ids")
        return int((self.full_positions if given is None else given).max()) + 1


def prompt_of(inputs: Mapping[str, Any], config: Any) -> Prompt:
    """Read ids, mask, padding side and padding token.

    Args:
        inputs: what the processor returned.
        config: of the model.

    Raises:
        InputsError: a batch has padding tokens but no attention_mask, or a prompt is hidden as a whole.
    """
    ids, mask = _on_host(inputs["input_ids"], inputs.get("attention_mask"))
    image = config.image_token_id
    pad = _pad_token(ids, mask, config)
    if mask is None:
        if len(ids) > 1 and bool((ids[:, [0, -1]] == pad).any()):
            raise InputsError(f"input_ids are padded (token {pad}) but there is no attention_mask; pass both")
        mask = torch.ones_like(ids)
    if bool((mask == 0).all(-1).any()):
        raise InputsError("attention_mask hides a whole prompt of the batch")
    left = bool((mask[:, 0] == 0).any()) or not bool((mask[:, -1] == 0).any())
    return Prompt(ids, mask, image, pad, left)


def _on_host(ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Copy ids and mask to the host, in one go where they lie together."""
    if mask is None:
        return ids.cpu(), None
    if mask.device != ids.device or mask.dtype != ids.dtype:
        return ids.cpu(), mask.cpu()
    both = torch.stack((ids, mask)).cpu()
    return both[0], both[1]


def _pad_token(ids: Tensor, mask: Tensor | None, config: Any) -> int:
    """Take the padding token in use, else the config's; never the image placeholder, as the model counts those."""
    used = ids[mask == 0] if mask is not None else ids[:0]
    text = config.get_text_config()
    candidates = [*used.flatten()[:1].tolist(), text.pad_token_id, getattr(config, "pad_token_id", None), 0, 1]
    return next(int(token) for token in candidates if token is not None and token != config.image_token_id)


def rows_of(prompt: Prompt, counts: Sequence[int]) -> tuple[int, ...]:
    """Find the row of the batch that each image belongs to, from the visual positions of each, in prompt order.

    Raises:
        InputsError: the placeholders do not fit the images.
    """
    rows = prompt.placeholders[:, 0]
    if len(rows) and not counts:
        raise InputsError(f"input_ids hold {len(rows):,} image placeholders, but there are no pixel_values; pass both")
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
    return tuple(samples)


@dataclass(frozen=True, eq=False)
class Stay:
    """The columns of each prompt that stay."""

    index: Tensor  # (B, n) int64, ascending in each row; no column of the prompt where it is padded
    counts: tuple[int, ...]  # of the columns of each row
    left: bool  # padding side

    @property
    def rows(self) -> list[Tensor]:
        """Those of each row, without padding."""
        return [own[len(own) - n :] if self.left else own[:n] for own, n in zip(self.index, self.counts, strict=True)]


def columns(prompt: Prompt, rows: Sequence[int], visual: Sequence[Tensor]) -> Stay:
    """Find the columns of each row that stay: its text, and `visual`, those of each image, of row `rows`.

    Found where `visual` lies, for all rows at once: the host waits for nothing.
    """
    counts = [len(text) for text in prompt.text]
    for row, own in zip(rows, visual, strict=True):
        counts[row] += len(own)
    length, total = max(counts), prompt.ids.shape[1]
    index = prompt.ids.new_full((len(counts), length), -1 if prompt.left else total, dtype=torch.int64)
    free = [length - count if prompt.left else 0 for count in counts]  # the next place of each row
    for row, text in enumerate(prompt.text):
        index[row, free[row] : free[row] + len(text)] = text
        free[row] += len(text)
    places = []
    for row, own in zip(rows, visual, strict=True):
        places.append(row * length + free[row] + torch.arange(len(own)))
        free[row] += len(own)
    if visual:
        here = visual[0].device
        flat, at = (offload.beside(x, here) for x in (index.flatten(), torch.cat(places)))
        index = flat.index_put((at,), torch.cat(list(visual))).view(len(counts), length).sort(1).values
    return Stay(index, tuple(counts), prompt.left)


def gather(values: Tensor, stay: Stay, fill: int) -> Tensor:
    """Keep the given columns of each row of (..., B, L) and pad to the longest row, on the same side as before."""
    index = offload.beside(stay.index, values.device)
    shape = (*values.shape[:-1], index.shape[1])
    if min(stay.counts) == index.shape[1]:
        return values.gather(-1, index.expand(shape))
    within = index.clamp(0, values.shape[-1] - 1)
    return values.gather(-1, within.expand(shape)).masked_fill(within != index, fill)
