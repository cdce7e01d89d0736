"""The engine that is always there: a model in this process, as transformers runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from herovlm import api
from herovlm.engines.engine import Answer, Asked
from herovlm.prompt.template import prompt
from herovlm.seams.language_models import check_length
from herovlm.view import see


@dataclass(frozen=True)
class Transformers:
    """A model and its processor, and what is dropped."""

    model: Any
    processor: Any
    request: api.Request
    max_new_tokens: int = 64

    @torch.no_grad()
    def __call__(self, asked: Sequence[Asked]) -> list[Answer]:
        """Answer questions in one batch, pictures of any size."""
        questions, pictures = tuple(one.question for one in asked), [one.picture for one in asked]
        texts = [prompt(self.processor, question) for question in questions]
        how: dict[str, Any] = {"return_tensors": "pt", "padding": True, "padding_side": "left"}
        inputs = self.processor(images=pictures, text=texts, **how).to(self.model.device, self.model.dtype)
        request = replace(self.request, question=questions, processor=self.processor, pictures=pictures)
        choice = see(self.model, inputs, request).choose(request)
        short = choice.rebuild()
        longest = int(short["attention_mask"].sum(1).max())
        check_length(self.model, longest, self.max_new_tokens, "ask a shorter question, or keep less")
        prompts = [(choice, number) for number in range(len(asked))]
        answered = api.answered(prompts, short, **api.greedy(self.processor, self.max_new_tokens))
        texts = self.processor.tokenizer.batch_decode(answered.new, skip_special_tokens=True)
        told = zip(texts, answered.positions, choice.seen, strict=True)
        return [Answer(str(text).strip(), float(kept), seen.positions) for text, kept, seen in told]


def ready(load: Callable[[], tuple[Any, Any]], request: api.Request, max_new_tokens: int) -> Transformers:
    """Load a model and its processor."""
    return Transformers(*load(), request, max_new_tokens)
