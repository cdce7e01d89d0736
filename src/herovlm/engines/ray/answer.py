"""The rows of a shard, answered by one model: in batches of pictures of any size, and one bad row spoils no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

import torch
from PIL import Image

from herovlm import api
from herovlm.engines.ray.manifest import Row
from herovlm.errors import PictureError, SetupError, reason
from herovlm.pictures import open_picture
from herovlm.prompt.template import prompt
from herovlm.seams.language_models import check_length
from herovlm.view import see


@dataclass(frozen=True)
class Answering:
    """A model that answers rows."""

    model: Any
    processor: Any
    request: api.Request
    max_new_tokens: int = 64
    batch: int = 8  # rows at once
    step: Callable[[int], None] = lambda rows: None  # is told how many rows are done

    def answer(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Answer rows; one that cannot be answered says why in `error`.

        Raises:
            SetupError: something is missing on this machine, whatever the row.
        """
        found: dict[str, dict[str, Any]] = {}
        pictures: dict[str, Image.Image] = {}
        for start in range(0, len(rows), self.batch):
            some = rows[start : start + self.batch]
            pictures.clear()
            for row in some:
                try:
                    pictures[row.id] = open_picture(row.image)
                except PictureError as error:
                    found[row.id] = _record(row, error=reason(error))
            found |= self._together([row for row in some if row.id in pictures], pictures)
            self.step(len(some))
        return [found[row.id] for row in rows]

    def _together(self, rows: Sequence[Row], pictures: Mapping[str, Image.Image]) -> dict[str, dict[str, Any]]:
        """Answer rows as one batch; where that fails, each alone."""
        if not rows:
            return {}
        try:
            return self._generate(rows, pictures)
        except SetupError:
            raise
        except Exception as error:
            if len(rows) == 1:
                return {rows[0].id: _record(rows[0], error=reason(error))}
        return {key: one for row in rows for key, one in self._together([row], pictures).items()}

    @torch.no_grad()
    def _generate(self, rows: Sequence[Row], pictures: Mapping[str, Image.Image]) -> dict[str, dict[str, Any]]:
        start = perf_counter()
        asked, came = tuple(row.question for row in rows), [pictures[row.id] for row in rows]
        texts = [prompt(self.processor, question) for question in asked]
        how: dict[str, Any] = {"return_tensors": "pt", "padding": True, "padding_side": "left"}
        inputs = self.processor(images=[[one] for one in came], text=texts, **how).to(
            self.model.device, self.model.dtype
        )
        request = replace(self.request, question=asked, processor=self.processor, pictures=came)
        choice = see(self.model, inputs, request).choose(request)
        short = choice.rebuild()
        longest = int(short["attention_mask"].sum(1).max())
        check_length(self.model, longest, self.max_new_tokens, "ask a shorter question, or keep less")
        prompts = [(choice, number) for number in range(len(rows))]
        answered = api.answered(prompts, short, **api.greedy(self.processor, self.max_new_tokens))
        texts = self.processor.tokenizer.batch_decode(answered.new, skip_special_tokens=True)
        seconds = (perf_counter() - start) / len(rows)
        told = zip(rows, texts, answered.positions, choice.seen, strict=True)
        return {
            row.id: _record(row, answer=str(text).strip(), kept=float(kept), of=seen.positions, seconds=seconds)
            for row, text, kept, seen in told
        }


def _record(row: Row, **said: Any) -> dict[str, Any]:
    return {**asdict(row), "answer": None, "kept": None, "of": None, "seconds": None, "error": None, **said}
