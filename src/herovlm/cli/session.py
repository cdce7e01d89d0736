"""A model that answers questions about pictures with fewer visual positions, and what each answer cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import LogitsProcessorList

from herovlm import api, budget, modules, see
from herovlm.cli import load
from herovlm.clock import Clock
from herovlm.cost.clock import race
from herovlm.cost.count import held
from herovlm.cost.run import GREEDY, answering
from herovlm.prompt.template import prompt
from herovlm.seams.compat import cache_in
from herovlm.seams.language_models import check_length
from herovlm.strategy import Answered, Decoding
from herovlm.types import Short
from herovlm.view import Choice
from herovlm.viz.geometry import Fit
from herovlm.viz.records import Answer, Asked, Report

RUNS, ENOUGH, LONG = 5, 4.0, 30.0  # rounds of timing, seconds of them, and of one that is not made again

SHORTER = "ask a shorter question, keep less, or lower --max-new-tokens"


@dataclass(frozen=True)
class Session:
    """A loaded model with its processor."""

    model: Any
    processor: Any
    name: str
    narrow: api.AnyNarrow | None = None  # of every answer
    limit: float | None = None  # seconds; whoever writes an answer for longer is cut off

    @property
    def title(self) -> str:
        """What a page says about the model: name, class and size."""
        millions = sum(p.numel() for p in self.model.parameters()) / 1e6
        narrow = "" if self.narrow is None else f", vision tower narrowed: {self.narrow}"
        parts = "".join(f", module: {one.told}" for one in modules.on(self.model))
        return f"{self.name} ({type(self.model).__name__}, {millions:,.1f} million parameters{narrow}{parts})"

    @property
    def reads(self) -> str | None:
        """What alone the model can read, where that is little: the demo model knows a few kinds of drawings."""
        from herovlm import demo

        return demo.READS if self.name == load.DEMO else None

    @property
    def fit(self) -> Fit:
        """How the processor makes one tile of a whole picture, where its geometry does not say (`Grid.squeezed`)."""
        images = self.processor.image_processor
        if getattr(images, "image_grid_pinpoints", None):
            return "squeeze"
        if getattr(images, "do_pad", False):
            return "pad"
        return "crop" if getattr(images, "do_center_crop", False) else "squeeze"

    def answer(
        self,
        pictures: Sequence[Image.Image],
        question: str,
        method: str,
        keep: api.AnyKeep,
        new_tokens: int,
        pulse: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Drop, time each stage, and generate greedily; methods inside the language model work in prefill and answer.

        `pulse` is called between stages and at each token; what it raises ends the answer.

        Raises:
            InputsError: the prompt does not fit the language model.
            HeroError: as `herovlm.drop`.
        """
        inputs, options = self.inputs(pictures, question), self._options(question, method, keep, pictures)
        clock = Clock(self.model.device)
        marks = [clock.start()]
        view = see(self.model, inputs, options)
        marks.append(clock.mark())
        pulse()
        short = (choice := view.choose(options)).rebuild()
        marks.append(clock.mark())
        check_length(self.model, short["input_ids"].shape[1], new_tokens, SHORTER)
        found, text, later = self._generate(choice, short, new_tokens, clock, pulse)
        sent = round(found.positions[0]) if options.strategy else sum(kept.positions for kept in short.kept)
        with api.reading(self.model, found.short or short, options) as record:
            cache = cache_of(self.model, found.short or short)
        (vision, choosing), (first, writing) = clock.seconds(marks), clock.seconds(later)
        views = [
            (replace(seen, features=None, attention={}, cls=None, hidden=None), replace(kept, features=None))
            for seen, kept in zip(short.seen, short.kept, strict=True)
        ]
        return Answer(
            method=method,
            keep=budget.told(options.budget),
            text=text,
            positions=sent,
            of=sum(seen.positions for seen in short.seen),
            prefill=first,
            vision=vision,
            choosing=choosing,
            writing=writing,
            cache=cache,
            views=tuple(views),
            inside=record.inside,
            facts=found.facts[0] if found.facts else {},
        )

    def ask(
        self,
        pictures: Sequence[Image.Image],
        question: str,
        plan: Sequence[tuple[str, api.AnyKeep]],
        new_tokens: int,
        step: Callable[[str], None],
    ) -> Asked:
        """Answer one question by every (method, keep) of a plan, calling `step` before each."""
        found = []
        for method, keep in plan:
            step(f"{method}: {question[:60]}")
            found.append(self.answer(pictures, question, method, keep, new_tokens))
        return Asked(question, self.timed(pictures, question, plan, found))

    def timed(
        self,
        pictures: Sequence[Image.Image],
        question: str,
        plan: Sequence[tuple[str, api.AnyKeep]],
        answers: Sequence[Answer],
        pulse: Callable[[], None] = lambda: None,
    ) -> tuple[Answer, ...]:
        """Time the first token of answers side by side: what disturbs a round disturbs all of them.

        Each has run once, when it answered; that is its time only where a round takes longer than half a minute, or
        where a strategy asks the model in its own way.

        Args:
            pictures, question: as for `answer`.
            plan: method and keep of each answer.
            answers: what they said.
            pulse: called before each run; what it raises ends the timing.
        """
        once = sum(answer.first_token for answer in answers)
        if once > LONG:
            return tuple(answers)
        inputs = self.inputs(pictures, question)
        asked = {str(i): self._options(question, *pair) for i, pair in enumerate(plan)}
        plain = {i: request for i, request in asked.items() if not isinstance(request.strategy, Decoding)}
        ways = {i: answering(self.model, inputs, request) for i, request in plain.items()}
        rounds = max(1, min(RUNS, int(ENOUGH / (once or ENOUGH))))
        taken = race(ways, rounds, warmup=0, step=lambda _: pulse(), lost={})  # who breaks now has answered, once
        found = []
        for i, answer in enumerate(answers):
            if t := taken.get(str(i)):
                vision, choosing, prefill = (median(t[name]) for name in ("vision", "selection", "prefill"))
                answer = replace(answer, vision=vision, choosing=choosing, prefill=prefill, rounds=rounds)
            found.append(answer)
        return tuple(found)

    def report(self, title: str, pictures: Sequence[tuple[str, Image.Image]], asked: Sequence[Asked]) -> Report:
        """Put pictures and answers together for a page or a table."""
        return Report(title, self.title, tuple(pictures), tuple(asked), self.fit)

    def prompt(self, pictures: int, question: str) -> str:
        """Write the prompt with the processor's chat template, or as USER/ASSISTANT where there is none.

        Raises:
            InputsError: the question holds the placeholder of a picture.
        """
        return prompt(self.processor, question, pictures)

    def inputs(self, pictures: Sequence[Image.Image], question: str) -> Any:
        """Process one prompt with all its pictures."""
        text = self.prompt(len(pictures), question)
        inputs = self.processor(images=list(pictures), text=[text], return_tensors="pt")
        return inputs.to(self.model.device, self.model.dtype)

    def _options(
        self, question: str, method: str, keep: api.AnyKeep, pictures: Sequence[Image.Image] = ()
    ) -> api.Request:
        how: Any = {"question": question, "processor": self.processor, "narrow": self.narrow}
        how["pictures"] = list(pictures) or None
        return api.Request.of(method, keep=keep, **how).on(self.model)

    def _generate(
        self, choice: Choice, short: Short, new_tokens: int, clock: Clock, pulse: Callable[[], None]
    ) -> tuple[Answered, str, list[Any]]:
        """Generate, and mark the beginning, the first token and the end."""
        pulse()
        tokenizer = self.processor.tokenizer
        end = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        how = {**GREEDY, "pad_token_id": end, "max_new_tokens": new_tokens, "max_time": self.limit}
        marks = [clock.start()]

        def tick(_ids: Tensor, scores: Tensor) -> Tensor:
            pulse()
            marks.append(clock.mark())
            return scores

        with torch.inference_mode():
            found = api.answered([(choice, 0)], short, **how, logits_processor=LogitsProcessorList([tick]))
        marks.append(clock.mark())
        text = str(tokenizer.decode(found.new[0], skip_special_tokens=True)).strip()
        return found, text, [*marks[:2], marks[-1]]


@contextmanager
def opened(
    name: str,
    clip: str | None,
    download: bool,
    step: Callable[[str], None],
    narrow: api.AnyNarrow | None = None,
    module: str | None = None,
) -> Iterator[Session]:
    """Load a model and keep other libraries quiet while it is used.

    Raises:
        HeroError: as `herovlm.cli.load.load`.
    """
    step(f"loading the model {name}")
    with load.quiet():
        yield Session(*load.load(name, clip=clip, download=download, module=module), name, narrow)


def cache_of(model: Any, short: Short) -> int:
    """Let the model read a prompt, and return the bytes of its keys and values."""
    with torch.inference_mode():
        return held(cache_in(model(**{**short, "use_cache": True}, logits_to_keep=1)))
