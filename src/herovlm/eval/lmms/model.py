"""The model that lmms-eval runs: an unmodified checkpoint of transformers under `herovlm.dropping`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from lmms_eval.utils import eval_logger
from PIL import Image
from rich.progress import track
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from herovlm import api, registry
from herovlm.budget import label
from herovlm.clock import now
from herovlm.errors import ModelError, UnsupportedError
from herovlm.eval.lmms import arguments
from herovlm.eval.lmms.prompts import Prompt, cut, generation_of, prompt_of
from herovlm.splice import Record


@dataclass
class Counts:
    """What was really sent, over all requests so far."""

    pictures: int = 0
    positions: int = 0  # visual positions that the untouched model would have sent
    kept: float = 0  # those that reached the language model, over all passes of a strategy
    inside: float = 0.0  # those in its layers, on average
    tokens: int = 0  # new ones
    seconds: float = 0.0  # of generate(), the choice of positions included

    def add(self, pictures: int, placeholders: int, record: Record) -> None:
        """Count the pictures of one call, which have so many placeholders in its prompts."""
        sent = () if record.last is None else record.last.kept
        kept = sum(record.read) if record.read else sum(one.positions for one in sent)
        self.pictures += pictures
        self.positions += placeholders
        self.kept += kept
        self.inside += sum(one.mean for one in record.inside) if record.inside else kept

    def log(self) -> None:
        """Hand the means to lmms-eval, which writes them into its result file under `throughput`."""
        each = max(self.pictures, 1)
        means = {
            "visual_positions": self.positions / each,
            "visual_positions_kept": self.kept / each,
            "visual_positions_in_layers": self.inside / each,
        }
        speed = self.tokens / self.seconds if self.seconds else 0.0
        log_metrics(self.seconds, self.tokens, speed, {**means, "pictures": self.pictures})


class HeroVlm(lmms):  # type: ignore[misc]  # lmms-eval is not typed
    """Any supported checkpoint with a share of its visual positions; `Arguments` has what `--model_args` may say."""

    is_simple = False  # asked in messages, which the checkpoint's own chat template writes

    def __init__(self, **given: Any) -> None:
        super().__init__()
        self.arguments = arguments.check(given)
        self.model, self.processor = load(self.arguments)
        self.counts = Counts()
        self._unknown: set[str] = set()
        self._try_out()

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Mapping[str, Any] | None = None) -> HeroVlm:
        """Make the model from `--model_args` and the options beside it, as lmms-eval does."""
        beside = {name: value for name, value in (additional_config or {}).items() if value is not None}
        return cls(**arguments.split(arg_string), **beside)

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        device: torch.device = self.model.device
        return device

    @property
    def batch_size(self) -> int:
        """Prompts a call of `generate`."""
        return self.arguments.batch_size

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Answer requests in batches of equal options; the order is that of the requests."""
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(repr(request.args[2]), []).append(index)
        size, found = self.batch_size, dict[int, GenerationResult]()
        batches = [group[at : at + size] for group in groups.values() for at in range(0, len(group), size)]
        for batch in track(batches, f"{self.arguments.method}, {label(self.arguments.budget)}", disable=self.rank != 0):
            prompts = [self._prompt(requests[index]) for index in batch]
            found.update(zip(batch, self._answer(prompts, requests[batch[0]].args[2]), strict=True))
        self.counts.log()
        return [found[index] for index in range(len(requests))]

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Refuse: only generation is served.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError("herovlm generates and does not score answers: take the generating form of the task")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[Any]:
        """Refuse: a prompt is answered once.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError("herovlm answers a prompt once: tasks of several rounds are not served")

    def _prompt(self, request: Instance) -> Prompt:
        _, messages, _, doc, task, part = request.args
        return prompt_of(messages(self.task_dict[task][part][doc]), self.processor)

    def _answer(self, prompts: Sequence[Prompt], asked: Mapping[str, Any]) -> list[GenerationResult]:
        """Generate for one batch, and count what was sent."""
        options, until, unknown = generation_of(asked, self.arguments.max_new_tokens)
        self._tell(unknown)
        pictures = [picture for prompt in prompts for picture in prompt.pictures]
        texts = [prompt.text for prompt in prompts]
        inputs = self.processor(images=pictures or None, text=texts, padding=True, return_tensors="pt")
        inputs = inputs.to(self.device, self.model.dtype)
        tokenizer, start = self.processor.tokenizer, now(self.model.device)
        end = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        with torch.inference_mode(), self._dropping(prompts) as record:
            out = self.model.generate(**inputs, pad_token_id=end, **options)
        new = out[:, inputs["input_ids"].shape[1] :].tolist()
        mask = (inputs if record.last is None else record.last)["attention_mask"]
        read = mask.reshape(len(prompts), -1).sum(1).tolist()  # a strategy may read several rows a prompt, side by side
        lengths = [sum(token != end for token in row) for row in new]
        self.counts.add(len(pictures), int((inputs["input_ids"] == self.model.config.image_token_id).sum()), record)
        self.counts.tokens += sum(lengths)
        self.counts.seconds += now(self.model.device) - start
        answers = [cut(text, until) for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
        spent = [TokenCounts(input_tokens=i, output_tokens=o) for i, o in zip(read, lengths, strict=True)]
        return [GenerationResult(*both) for both in zip(answers, spent, strict=True)]

    def _dropping(self, prompts: Sequence[Prompt]) -> Any:
        asked = self.arguments
        return api.dropping(
            self.model,
            method=asked.method,
            keep=asked.budget,
            question=[prompt.question for prompt in prompts],
            processor=self.processor,
            positions=asked.positions,
            newlines=asked.newlines,
            pictures=[picture for prompt in prompts for picture in prompt.pictures],
        )

    def _tell(self, unknown: Sequence[str]) -> None:
        """Warn once of options of a task that mean nothing here."""
        for name in set(unknown) - self._unknown:
            self._unknown.add(name)
            eval_logger.warning(f"generation_kwargs: {name} is no option of generate() and is left out")

    def _try_out(self) -> None:
        """Answer one picture, so that a missing CLIP or an unsupported model shows before the datasets are fetched."""
        content = [{"type": "image", "url": Image.new("RGB", (640, 480))}, {"type": "text", "text": "What is this?"}]
        self._answer([prompt_of([{"role": "user", "content": content}], self.processor)], {"max_new_tokens": 1})
        self.counts = Counts()


def load(asked: arguments.Arguments) -> tuple[Any, Any]:
    """Load the checkpoint as it is, and its processor, which pads on the left.

    Raises:
        ModelError: its family is not supported.
    """
    config = AutoConfig.from_pretrained(asked.pretrained, revision=asked.revision)
    if config.model_type not in registry.families():
        raise ModelError(
            f"{asked.pretrained} is of the family {config.model_type!r}, which is not supported; "
            f"supported families: {', '.join(registry.families())}"
        )
    how = {"attn_implementation": asked.attn_implementation, "device_map": asked.device_map}
    how = {name: value for name, value in how.items() if value is not None}
    model = AutoModelForImageTextToText.from_pretrained(
        asked.pretrained, config=config, revision=asked.revision, dtype=asked.dtype, **how
    )
    if asked.clip is not None:
        model.config.herovlm_clip = asked.clip
    if asked.device_map is None:
        own = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
        model = model.to(asked.device or own)
    processor = AutoProcessor.from_pretrained(asked.pretrained, revision=asked.revision)
    processor.tokenizer.padding_side = "left"
    return model.eval(), processor
