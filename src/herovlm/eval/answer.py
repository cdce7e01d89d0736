"""Every question about one picture, answered under every configuration, with no work done twice.

One look of the tower serves all methods and questions; methods before the LLM that send equally much share batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from herovlm import api
from herovlm.clock import now
from herovlm.errors import HeroError, ModelError, SetupError, reason
from herovlm.eval.plan import Config
from herovlm.prompt.template import prompt
from herovlm.seams import refuse
from herovlm.seams.language_models import check_length
from herovlm.types import Short
from herovlm.view import Choice, View, see, together

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Answer:
    """What was said to one question under one configuration."""

    config: Config
    question: int  # which of the questions
    text: str
    kept: float  # visual positions sent; in a chain, the mean over the layers
    of: int
    select: float  # seconds to choose
    generate: float  # seconds of its batch, divided by the prompts in it
    facts: Mapping[str, Any] = field(default_factory=dict)  # what a strategy says of it


@dataclass(frozen=True)
class Answered:
    """All answers about one picture."""

    answers: tuple[Answer, ...]
    refused: dict[Config, str]  # those that say they cannot, and why
    failed: dict[Config, str]  # those that went wrong, and how
    vision: float  # seconds of the look that all methods and questions shared


@dataclass(frozen=True)
class Row:
    """A question under one configuration, ready to be sent."""

    config: Config
    question: int
    choice: Choice  # of all questions under this configuration
    length: int  # of the short prompt
    seconds: float

    @property
    def positions(self) -> tuple[int, int]:
        """Visual positions sent, and of how many."""
        return self.choice.kept[self.question].positions, self.choice.seen[self.question].positions


@dataclass(frozen=True)
class Sheet:
    """All questions about one picture under all configurations, ready to be sent."""

    rows: list[Row]
    refused: dict[Config, str]
    failed: dict[Config, str]
    vision: float  # seconds of the look

    def without(self, config: Config, error: Exception) -> None:
        """Note that a configuration has no answer: it refuses by an error of ours, and fails by any other."""
        (self.refused if isinstance(error, HeroError) else self.failed)[config] = reason(error)

    @property
    def groups(self) -> list[list[Row]]:
        """Rows that may share batches."""
        return [list(group) for _, group in groupby(sorted(self.rows, key=_alike), key=_alike)]


def short_of(rows: Sequence[Row]) -> Short:
    """Make the shorter inputs of rows that share a batch."""
    return together([(row.choice, row.question) for row in rows])


@dataclass(frozen=True)
class Reader:
    """A model that answers."""

    model: Any
    processor: Any
    template: str = "{question}"  # what the user says
    max_new_tokens: int = 16
    batch: int = 16_384  # most positions, of all prompts together, in one pass of the language model

    @torch.no_grad()
    def answer(self, image: Image.Image, questions: Sequence[str], configs: Sequence[Config]) -> Answered:
        """Answer all questions about a picture under all configurations; those that cannot are noted with the reason.

        Raises:
            SetupError: something is missing on this machine.
            HeroError: the model or the picture cannot be used, whatever the method.
        """
        sheet = self.sheet(image, questions, configs)
        answers = [answer for group in sheet.groups for answer in self._together(group, sheet)]
        order = {config: n for n, config in enumerate(configs)}
        answers.sort(key=lambda answer: (order[answer.config], answer.question))
        return Answered(tuple(answers), sheet.refused, sheet.failed, sheet.vision)

    @torch.no_grad()
    def sheet(self, image: Image.Image, questions: Sequence[str], configs: Sequence[Config]) -> Sheet:
        """Look at the picture, and choose for every question and configuration what shall be sent.

        Raises:
            SetupError: something is missing on this machine.
            HeroError: the model or the picture cannot be used, whatever the method.
        """
        refuse.model(self.model)
        inputs, ids, mask = self._inputs(image, questions)
        start, common = now(self.model.device), None
        try:
            common = see(self.model, inputs, *[one.request for one in configs])
        except (SetupError, ModelError):
            raise
        except Exception:  # what one method wants recorded cannot be: each looks alone, and one of them is to blame
            common = None
        sheet = Sheet([], {}, {}, now(self.model.device) - start)
        for config in configs:
            try:
                view = see(self.model, inputs, config.request) if common is None else common
                sheet.rows.extend(self._rows(config, view.under(ids, mask, [0] * len(questions)), image, questions))
            except SetupError:
                raise
            except Exception as error:
                sheet.without(config, error)
        return sheet

    def _inputs(self, image: Image.Image, questions: Sequence[str]) -> tuple[Any, Tensor, Tensor]:
        """Process the picture under each question; return its inputs under the first, and all ids and masks (Q, L)."""
        texts = [prompt(self.processor, self.template.replace("{question}", question)) for question in questions]
        first = self._processed(image, texts[:1])
        every = first if len(texts) == 1 else self._processed(image, texts)
        ids, mask = (every[name].to(self.model.device) for name in ("input_ids", "attention_mask"))
        return first.to(self.model.device, self.model.dtype), ids, mask

    def _processed(self, image: Image.Image, texts: Sequence[str]) -> Any:
        """Let the processor write the prompts: where a picture stands in them is its own affair."""
        how: dict[str, Any] = {"return_tensors": "pt", "padding": True, "padding_side": "left"}
        return self.processor(images=[[image] for _ in texts], text=list(texts), **how)

    def _rows(self, config: Config, view: View, image: Image.Image, questions: Sequence[str]) -> list[Row]:
        """Choose for every question."""
        start = now(self.model.device)
        own = {"processor": self.processor, "pictures": (image,) * len(questions)}
        choice = view.choose(replace(config.request, question=tuple(questions), **own))
        seconds = (now(self.model.device) - start) / len(questions)
        rows: list[Row] = []
        for question, (seen, kept) in enumerate(zip(choice.seen, choice.kept, strict=True)):
            length = int((view.plan.prompt.mask[question] != 0).sum()) - seen.positions + kept.positions
            check_length(self.model, length, self.max_new_tokens, "keep less")
            rows.append(Row(config, question, choice, length, seconds))
        return rows

    def _together(self, rows: list[Row], sheet: Sheet) -> list[Answer]:
        """Answer in batches; where one cannot be, find out which configuration is to blame."""
        configs = list(dict.fromkeys(row.config for row in rows))
        try:
            return [answer for some in chunks(rows, self.batch) for answer in self._generate(some)]
        except SetupError:
            raise
        except Exception as error:
            if len(configs) == 1:
                sheet.without(configs[0], error)
                return []
        alone = ([row for row in rows if row.config == one] for one in configs)  # behind the error, which held memory
        return [answer for some in alone for answer in self._together(some, sheet)]

    def _generate(self, rows: Sequence[Row]) -> Iterator[Answer]:
        """Answer a batch greedily."""
        start = now(self.model.device)
        found = api.answered(
            [(row.choice, row.question) for row in rows], **api.greedy(self.processor, self.max_new_tokens)
        )
        texts = self.processor.tokenizer.batch_decode(found.new, skip_special_tokens=True)
        seconds = (now(self.model.device) - start) / len(rows)
        facts: Sequence[Mapping[str, Any]] = found.facts or [{}] * len(rows)
        for row, text, count, told in zip(rows, texts, found.positions, facts, strict=True):
            said, (_, of) = str(text).strip(), row.positions
            count = int(count) if count == int(count) else count
            yield Answer(row.config, row.question, said, count, of, row.seconds, seconds, told)


def chunks(rows: Sequence[Row], most: int) -> Iterator[list[Row]]:
    """Cut rows into batches of at most so many positions, padding counted, and at least one row."""
    batch: list[Row] = []
    for row in rows:
        if batch and (len(batch) + 1) * max(row.length, *(one.length for one in batch)) > most:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _alike(row: Row) -> tuple[bool, str, str]:
    """Sort key of rows that may share a batch: where something goes on behind a plus, only among themselves."""
    request = row.config.request
    alone = request.inside is not None or request.strategy is not None
    return row.config.original, str(row.config.budget), str(row.config) if alone else ""
