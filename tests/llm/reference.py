"""The reference: every layer of the unmodified model over all columns, those that are gone hidden by explicit masks.

Nothing is left out, nothing is cached, no hook and none of the engine's code is used: only the cuts that the method
returned, which `spied` writes down.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from herovlm.methods.inside.base import Inside
from herovlm.types import Cut, SeenInside, Short


@contextmanager
def spied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[SeenInside, Cut]]]:
    """Write down what inside methods are shown and what they return, in order."""
    seen: list[tuple[SeenInside, Cut]] = []
    inner = Inside.cut

    def cut(self: Inside, look: SeenInside) -> Cut:
        made = inner(self, look)
        seen.append((look, made))
        return made

    with monkeypatch.context() as patch:
        patch.setattr(Inside, "cut", cut)
        yield seen


def entered(model: Any, short: Short, new: Tensor) -> tuple[Tensor, Tensor]:
    """States at the entry of the language model (B, n, D) and which columns are real, for prompt and new tokens."""
    ids = torch.cat([short["input_ids"], new], 1)
    real = torch.cat([short["attention_mask"], torch.ones_like(new)], 1).bool()
    states = model.get_input_embeddings()(ids)
    prompt = states[:, : short["input_ids"].shape[1]]  # the answer may hold the placeholder too, as a word
    prompt[short["input_ids"] == model.config.image_token_id] = torch.cat(
        short["mm_encoder_outputs"]["image"].pooler_output
    )
    return states, real


@torch.no_grad()
def logits(model: Any, short: Short, seen: list[tuple[SeenInside, Cut]], new: Tensor) -> Tensor:
    """Logits of the last column (B, vocabulary) of prompts and new tokens (B, t)."""
    hidden, real = entered(model, short, new)
    visual = [row.nonzero().flatten() for row in short["input_ids"] == model.config.image_token_id]
    pictured = [row for row, where in enumerate(visual) if len(where)]
    language, length = model.model.language_model, hidden.shape[1]
    places = (real.cumsum(1) - 1).clamp(min=0)
    numbers = short.inputs.get("position_ids")
    more = torch.arange(1, 1 + new.shape[1])
    rope = language.rotary_emb(
        hidden, places if numbers is None else torch.cat([numbers, numbers[..., -1:] + more], -1)
    )
    beside = getattr(short["mm_encoder_outputs"]["image"], "deepstack_features", None) or ()
    pictures = short["input_ids"] == model.config.image_token_id
    there = real.clone()
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    looks = iter(seen)
    cuts = sorted({look.layer for look, _ in seen})
    for number, layer in enumerate(language.layers):
        for row in pictured if number in cuts else ():
            look, made = next(looks)
            assert look.layer == number
            where = visual[row]
            if made.merged is not None and made.weights is not None:
                hidden[row, where[made.keep[made.merged]]] = made.weights @ hidden[row, where]
            there[row, where] = False
            visual[row] = where[made.keep]
            there[row, visual[row]] = True
        visible = (causal & there[:, None, None]) | torch.eye(length, dtype=torch.bool)
        if language.config._attn_implementation == "eager":
            visible = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
        hidden = layer(hidden, attention_mask=visible, position_ids=places, position_embeddings=rope)
        if number < len(beside):
            hidden[:, : pictures.shape[1]][pictures] += torch.cat(list(beside[number]))
    return model.lm_head(language.norm(hidden[:, -1]))


def greedy(model: Any, short: Short, seen: list[tuple[SeenInside, Cut]], count: int) -> Tensor:
    """Greedy tokens (B, count) of a left-padded batch."""
    new = short["input_ids"][:, :0]
    for _ in range(count):
        new = torch.cat([new, logits(model, short, seen, new).argmax(-1, keepdim=True)], 1)
    return new


def beams(model: Any, short: Short, seen: list[tuple[SeenInside, Cut]], count: int, width: int) -> Tensor:
    """The best of `width` beams (1, count) of one prompt, by summed log probabilities; no token ends a sequence."""
    found = [(0.0, short["input_ids"][:, :0])]
    for _ in range(count):
        longer = []
        for total, new in found:
            best = logits(model, short, seen, new).log_softmax(-1)[0].topk(width)
            for value, token in zip(best.values.tolist(), best.indices, strict=True):
                longer.append((total + value, torch.cat([new, token.view(1, 1)], 1)))
        found = sorted(longer, key=lambda one: -one[0])[:width]
    return found[0][1]
