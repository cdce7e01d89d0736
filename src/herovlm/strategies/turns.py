"""The two turns of Chain-of-Spot as prompts, and the inputs of prompts whose pictures were seen one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from herovlm import rebuild, registry
from herovlm.errors import InputsError
from herovlm.geometry import Geometry
from herovlm.plan import Plan
from herovlm.prompt import positions
from herovlm.prompt.template import Turn, chat
from herovlm.types import Kept, Seen, Short
from herovlm.view import Choice

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Look(NamedTuple):
    """One picture as it was seen, and what is kept of it."""

    geometry: Geometry
    seen: Seen
    kept: Kept
    source: rebuild.Source

    @classmethod
    def of(cls, choice: Choice, image: int) -> Look:
        """Take one image of what was chosen."""
        return cls(choice.view.plan.images[image], choice.seen[image], choice.kept[image], choice.sources[image])


def where(question: str, word: str) -> list[Turn]:
    """Write the first turn: where to look."""
    return [[None, f'To answer the question: "{question}", {word} is the region of interest in the image?']]


def both(question: str, word: str, said: str) -> list[Turn]:
    """Write both turns: what was said to the first stands between them, the crop in the second."""
    shown: Turn = ["The region of interest in the image is ", None, f'. Answer the question: "{question}"']
    return [*where(question, word), [said], shown]


def tokens(
    model: PreTrainedModel, processor: Any, chats: Sequence[Sequence[Turn]], counts: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """Turn chats into token ids with a placeholder for every visual position, padded on the left.

    Args:
        model: its config says which token is the placeholder.
        processor: has the chat template and the tokenizer.
        chats: one a prompt.
        counts: visual positions of each picture of each chat, as the untouched model sends them.

    Returns:
        Ids and mask, (B, L) int64 each, where the model is.

    Raises:
        InputsError: the template does not show all the pictures.
    """
    image, rows = int(model.config.image_token_id), []
    for turns, own in zip(chats, counts, strict=True):
        ids = processor.tokenizer(chat(processor, turns)).input_ids
        if ids.count(image) != len(own):
            raise InputsError(
                f"the chat template shows {ids.count(image)} pictures of {len(own)}; pass a processor whose template "
                "shows a picture in every turn that has one"
            )
        left = iter(own)
        rows.append(list(chain.from_iterable([one] * next(left) if one == image else [one] for one in ids)))
    return padded(model, rows)


def padded(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Pad rows of token ids on the left: ids and mask, (B, L) int64 each, where the model is."""
    length, pad = max(map(len, rows)), model.config.get_text_config().pad_token_id or 0
    ids = torch.tensor([[pad] * (length - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    return ids.to(model.device), mask.to(model.device)


@torch.no_grad()
def side_by_side(model: PreTrainedModel, prompts: Sequence[Sequence[Look]], ids: Tensor, mask: Tensor) -> Short:
    """Make the shorter inputs of prompts whose pictures were seen one after the other.

    Args:
        model: the model.
        prompts: the pictures of each prompt, in its order.
        ids: (B, L) token ids with a placeholder for every position that the untouched model sends.
        mask: (B, L) attention mask.

    Raises:
        InputsError: placeholders and pictures do not fit.
    """
    family, looks = registry.family(model), [look for own in prompts for look in own]
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    prompt = positions.prompt_of(inputs, model.config)
    rows = positions.rows_of(prompt, [look.geometry.positions for look in looks])
    inputs |= {name: kinds.to(ids.device) for name, kinds in family.kinds(prompt).items()}
    geometry, seen, kept, sources = zip(*looks, strict=True)
    return rebuild.rebuild(family, model, Plan(inputs, prompt, geometry, rows), seen, kept, sources)
