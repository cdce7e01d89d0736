"""What IGVA trains on the demo model: widened projector and aggregator; or, to compare, the projector alone.

A row is one question about one picture: its features are made for it.  The tower is looked through as at inference.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import LlavaNextForConditionalGeneration, LlavaNextProcessor

from herovlm import Request, see
from herovlm.demo import scenes
from herovlm.modules import fusion
from herovlm.towers import relevance
from herovlm.types import Kept, Needs, Seen
from herovlm.view import Choice
from training.demo import data, llm

SCENES = scenes.SPLITS["train"].start + 850_000  # the demo model has not seen these
WIDTH = 128  # of the aggregator
DROPPED = 0.2  # `keep` of seven steps in eight; the others keep all
PICTURES, QUESTIONS = 8, {1.0: 1, DROPPED: 3}  # a step; about each picture


@dataclass
class Rows:
    """Questions, each about one of a few pictures."""

    pictures: list[data.Picture]
    of: list[int]  # the picture of each row
    questions: list[scenes.Question]
    keep: float


def batches(start: int, pictures: int = PICTURES) -> Iterator[Rows]:
    """Endless batches from step `start` on, questions of all kinds."""
    for step, group in enumerate(data.stream(start, pictures, SCENES, crowd=16), start):
        rng, keep = random.Random(step), DROPPED if step % 8 else 1.0
        of = [number for number in range(len(group)) for _ in range(QUESTIONS[keep])]
        drawn = [rng.sample(group[number].scene.questions, QUESTIONS[keep]) for number in range(len(group))]
        yield Rows(group, of, [question for some in drawn for question in some], keep)


class Stage(llm.Stage):
    """One question a row, on features that were chosen for it; the language model is frozen."""

    def __init__(self, model: LlavaNextForConditionalGeneration, processor: LlavaNextProcessor) -> None:
        super().__init__(model, processor.tokenizer)
        self.processor = processor
        model.requires_grad_(False)

    def chosen(self, rows: Rows) -> Choice:
        """Look at the pictures once, and let HERO choose for every question."""
        texts = [question.text for question in rows.questions]
        request = Request.of("hero", keep=rows.keep, question=texts)
        pictures = [[picture.scene.image] for picture in rows.pictures]
        first = ["<image>"] * len(pictures)
        inputs = self.processor(images=pictures, text=first, return_tensors="pt", padding=True)
        needs = Needs(hidden=True, layers=fusion.groups_of(self.depth))
        view = see(self.llava, inputs, replace(request, question=""), needs=needs)
        lines = [view.plan.prompt.ids[row] for row in rows.of]
        marks = [view.plan.prompt.mask[row] for row in rows.of]
        return view.under(torch.stack(lines), torch.stack(marks), rows.of).choose(request)

    @property
    def depth(self) -> int:
        return int(self.llava.config.vision_config.num_hidden_layers)

    def forward(self, rows: Rows) -> tuple[Tensor, dict[str, float]]:
        """One step's loss over answer tokens."""
        choice = self.chosen(rows)
        patches, more, told = self.projected(rows, choice.seen)
        newline = self.llava.model.image_newline
        images = [sent(one, own, x, newline) for one, own, x in zip(choice.seen, choice.kept, patches, strict=True)]
        branches = [[llm.branch(self.processor.tokenizer, question)] for question in rows.questions]
        loss, right = self.answers(images, llm.Batch([], [], branches, [], max(map(len, images))))
        there = {"answers", *(question.kind for question in rows.questions)}
        return loss + more, {f"{kind}@{rows.keep}": value for kind, value in right.items() if kind in there} | told

    def projected(self, rows: Rows, seen: Sequence[Seen]) -> tuple[list[Tensor], Tensor | float, dict[str, float]]:
        """Features of each row's patches, (T, N, D); what is added to the loss, and to the log."""
        raise NotImplementedError


def sent(seen: Seen, kept: Kept, patches: Tensor, newline: Tensor) -> Tensor:
    """Put what was kept of a picture in order, newlines between: (T, N, D) -> (positions, D)."""
    slots = seen.grid.order[seen.grid.on_slots(kept.mask, kept.newlines)]
    flat = torch.cat([patches.flatten(0, 1), newline[None].to(patches.dtype)])
    return flat[slots.clamp(min=-1)]


class Plain(Stage):
    """The control: the same steps for the projector alone."""

    def __init__(self, model: LlavaNextForConditionalGeneration, processor: LlavaNextProcessor) -> None:
        super().__init__(model, processor)
        model.model.multi_modal_projector.requires_grad_(True)

    def projected(self, rows: Rows, seen: Sequence[Seen]) -> tuple[list[Tensor], Tensor | float, dict[str, float]]:
        return [self.llava.model.multi_modal_projector(one.hidden) for one in seen], 0.0, {}


class Fused(Stage):
    """Features of the model's own layer beside those of all layers, mixed as the question asks."""

    def __init__(self, model: LlavaNextForConditionalGeneration, processor: LlavaNextProcessor, sentence: int) -> None:
        super().__init__(model, processor)
        groups = fusion.groups_of(self.depth)
        channels = model.config.vision_config.hidden_size
        aggregator = fusion.Aggregator(sentence, channels, WIDTH, len(groups))
        self.fusion = fusion.Fusion(aggregator, fusion.widened(model.model.multi_modal_projector), groups)
        self.fusion.requires_grad_(True)

    def projected(self, rows: Rows, seen: Sequence[Seen]) -> tuple[list[Tensor], Tensor | float, dict[str, float]]:
        device = self.llava.device
        asked = relevance.sentences(self.llava, [question.text for question in rows.questions], device)
        layers = [one.layers for one in seen]
        shares = self.fusion.aggregator(asked, torch.stack([own[0, :, 0] for own in layers]))
        wide = [fusion.fused(one.hidden, own, share) for one, own, share in zip(seen, layers, shares, strict=True)]
        balance = fusion.balance(shares.float())
        told = {f"group {group}": share for group, share in enumerate(shares.mean(0).tolist(), 1)}
        patches = [self.fusion.projector(own) for own in wide]
        return patches, fusion.BALANCE * balance, told | {"balance": balance.item()}
