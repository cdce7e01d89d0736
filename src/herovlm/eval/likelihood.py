"""How likely the right answers are, and whether greedy decoding would say them: one pass of the language model each.

Greedy decoding says an answer exactly when each of its tokens, and the end behind it, is the most likely one after the
ones before.  So the right answer is read along with the prompt (teacher forcing), and nothing is generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from herovlm.errors import HeroError, InputsError, UnsupportedError
from herovlm.eval.answer import Reader, Row, chunks, short_of
from herovlm.eval.plan import Config
from herovlm.prompt.template import prompt

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Judged:
    """What a model makes of the right answer to one question under one configuration."""

    config: Config
    question: int
    right: bool  # greedy decoding would say it
    log: float  # natural logarithm of its probability, the end of the answer included
    kept: int
    of: int


def judge(
    reader: Reader, image: Image.Image, questions: Sequence[str], answers: Sequence[str], configs: Sequence[Config]
) -> list[Judged]:
    """Judge the right answer to every question about a picture under all configurations that can keep so little.

    Raises:
        UnsupportedError: something goes on behind a method.
        HeroError: the model or the picture cannot be used, or something went wrong.
    """
    for config in configs:
        if config.request.inside is not None or config.request.strategy is not None:
            where = "inside the language model" if config.request.inside is not None else "by a strategy"
            raise UnsupportedError(f"{config.method} goes on {where}; judge methods before it")
    sheet = reader.sheet(image, questions, configs)
    for config, why in sheet.failed.items():
        raise HeroError(f"{config}: {why}")
    wanted = [answer_ids(reader, q, a) for q, a in zip(questions, answers, strict=True)]
    return [one for rows in sheet.groups for one in judge_rows(reader, rows, wanted)]


def answer_ids(reader: Reader, question: str, answer: str) -> list[int]:
    """Tokens of an answer as they follow the prompt of a question.

    Raises:
        InputsError: the tokens of the prompt are others when an answer follows it.
    """
    text = prompt(reader.processor, reader.template.replace("{question}", question))
    tokenizer = reader.processor.tokenizer
    before, whole = (tokenizer(part)["input_ids"] for part in (text, f"{text} {answer}"))
    if whole[: len(before)] != before:
        raise InputsError(f"the answer {answer!r} changes the tokens of its prompt; end the template differently")
    return list(whole[len(before) :])


@torch.no_grad()
def forced(model: Any, short: Mapping[str, Any], answers: Sequence[Sequence[int]], end: int) -> tuple[Tensor, Tensor]:
    """Read each answer behind its prompt.

    Args:
        model: the model.
        short: inputs padded on the left, from `herovlm.drop`.
        answers: tokens, one answer a prompt.
        end: token that ends an answer.

    Returns:
        (B,) bool: every token is the most likely one; (B,) float32: log-probability of the answer.

    Raises:
        InputsError: the prompts are padded on the right.
    """
    mask = short["attention_mask"]
    if bool((mask[:, -1] == 0).any()):
        raise InputsError("the prompts are padded on the right; pad them on the left")
    width = max(map(len, answers)) + 1
    rows = [[*answer, end] + [-100] * (width - 1 - len(answer)) for answer in answers]
    wanted = torch.tensor(rows, device=mask.device)  # (B, width), -100 behind the end
    real = wanted >= 0
    fed = wanted[:, :-1].masked_fill(~real[:, :-1], end)
    given = {name: value for name, value in short.items() if name != "use_cache"}
    given["input_ids"] = torch.cat([short["input_ids"], fed], 1)
    given["attention_mask"] = torch.cat([mask, torch.ones_like(fed)], 1)
    if (places := short.get("position_ids")) is not None:
        later = torch.arange(1, width, device=places.device)
        given["position_ids"] = torch.cat([places, places[..., -1:] + later], -1)
    logits = model(**given, logits_to_keep=width, use_cache=False).logits.float()  # (B, width, vocabulary)
    log = logits.log_softmax(-1).gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
    return ((logits.argmax(-1) == wanted) | ~real).all(1), (log * real).sum(1)


def judge_rows(reader: Reader, rows: Sequence[Row], wanted: Sequence[Sequence[int]]) -> list[Judged]:
    """Judge rows that may share batches, in their order.

    Args:
        reader: the model.
        rows: a question and what is kept for it.
        wanted: tokens of the right answer to each question.
    """
    return [one for some in chunks(rows, reader.batch) for one in _of(reader, some, wanted)]


def _of(reader: Reader, rows: Sequence[Row], wanted: Sequence[Sequence[int]]) -> list[Judged]:
    """Judge a batch."""
    short = short_of(rows)
    end = reader.processor.tokenizer.eos_token_id
    right, log = forced(reader.model, short, [wanted[row.question] for row in rows], end)
    return [
        Judged(row.config, row.question, bool(r), float(g), *row.positions)
        for row, r, g in zip(rows, right, log, strict=True)
    ]
