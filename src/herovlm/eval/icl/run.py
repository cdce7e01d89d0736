"""Every person asked about under every budget of the examples, into records of a run that can be taken up again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from herovlm import api
from herovlm.clock import Clock
from herovlm.errors import InputsError, ModelError, SetupError, UsageError, reason
from herovlm.eval import records
from herovlm.eval.icl import compose, score
from herovlm.eval.icl.data import People, Person
from herovlm.eval.icl.retrieve import Retriever, Views, rank
from herovlm.eval.run import commit, facts, machine
from herovlm.prompt.template import interleaved
from herovlm.seams.language_models import check_length
from herovlm.view import View, see

GREEDY: dict[str, Any] = {"do_sample": False, "num_beams": 1, "max_new_tokens": 128}
AUTHORS: dict[str, Any] = {"do_sample": True, "num_beams": 3, "temperature": 0.2, "top_p": 0.9, "max_new_tokens": 512}
GENERATION = {"greedy": GREEDY, "authors": AUTHORS}
UNSET = {"temperature": None, "top_p": None, "top_k": None}  # what a checkpoint may say, and greedy decoding warns of
SPLIT = "test"


@dataclass(frozen=True)
class Config:
    """A method, and how much it keeps of examples and of the picture that is asked about."""

    method: str
    examples: tuple[float, ...]  # shares by rank, the most alike first; the last goes on for those behind it
    query: float = 1.0

    def keep(self, shots: int) -> list[float]:
        """Return the share of each picture of a prompt, the one that is asked about last."""
        each = [self.examples[min(i, len(self.examples) - 1)] for i in range(shots)]
        return [*each, self.query]

    def request(self, shots: int, processor: Any) -> api.Request:
        """Check what is asked for.

        Raises:
            HeroError: the method or a share cannot be.
        """
        how: dict[str, Any] = {"question": compose.QUESTION, "processor": processor}
        return api.Request.of(self.method, keep=self.keep(shots), **how)

    def __str__(self) -> str:
        return f"{self.method} {','.join(map(str, self.examples))}|{self.query}"


FULL = Config("full", (1.0,))


@dataclass(frozen=True)
class Prompt:
    """One prompt about a person, ready for the model."""

    inputs: Any
    pictures: tuple[Image.Image, ...]
    text: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is asked of whom; `settings` must be the same whenever a run goes on."""

    people: People
    name: str  # of the model
    model: Any
    processor: Any
    retriever: Retriever
    configs: Sequence[Config]
    shots: int = 6
    generation: str = "greedy"
    max_new_tokens: int | None = None  # instead of what the generation says
    seed: int = 0  # of the draws of the authors' generation

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: there are fewer persons in the pool than shall be shown.
        """
        if self.shots > len(self.people.pool):
            raise UsageError(f"{self.shots} examples are wanted, and the pool has {len(self.people.pool)}; show fewer")

    @property
    def settings(self) -> dict[str, Any]:
        """All that a result depends on."""
        return {
            "settings": {
                "data": [self.people.name, self.people.data, len(self.people.pool)],
                "labels": list(self.people.labels),
                "model": self.name,
                "retriever": self.retriever.name,
                "configs": [str(one) for one in self.configs],
                "shots": self.shots,
                "generation": {**self.how, "name": self.generation, "seed": self.seed},
            },
            **machine(),
        }

    @property
    def how(self) -> dict[str, Any]:
        """Options of `generate`."""
        chosen = GENERATION[self.generation]
        return {**chosen, "max_new_tokens": self.max_new_tokens or chosen["max_new_tokens"]}

    def go(self, folder: Path, step: Callable[[str], None] = lambda _: None) -> None:
        """Ask about everybody who has not been asked about yet.

        Args:
            folder: where the records are; a run that was ended at any moment goes on where it was.
            step: is told what comes next.

        Raises:
            UsageError: the folder holds another run, or cannot be written; a box is not in a picture of the pool.
            PictureError: a picture of the pool cannot be read.
            SetupError, ModelError: something is missing on this machine, or the model cannot be used at all.
        """
        for config in self.configs:
            api.check(self.model, config.request(self.shots, self.processor))
        records.agree(folder, {**self.settings, f"model {self.name}": facts(self.model)}, commit=commit())
        with records.writing(folder, 0, 1) as writer:
            left = [one for one in self.people.test if records.group_of(self._group(one)) not in writer.done]
            pool = self.retriever.look(self.people.pool, step) if left and self.shots else None
            for number, person in enumerate(left, 1):
                step(f"{self.name}: person {number:,} of {len(left):,}")
                writer.write(*self._asked(person, pool))

    def _group(self, person: Person) -> dict[str, Any]:
        return {"model": self.name, "task": self.people.name, "split": SPLIT, "picture": person.name}

    def _asked(self, person: Person, pool: Views | None) -> tuple[list[records.Record], records.Record]:
        """Ask about one person: a record for every budget, and the line that closes them."""
        group = self._group(person)
        try:
            shown = self.examples(person, pool)
            prompt = self.prompt(person, shown)
            made, refused = self._answers(group, person, prompt, shown)
        except (SetupError, ModelError):
            raise
        except Exception as error:
            return [], {"done": 0, **group, "unusable": reason(error)}
        if not made:
            return [], {"done": 0, **group, "unusable": next(iter(refused.values()))}
        votes = score.vote([one.labels for one in shown], self.people.labels)
        nearest = {
            "examples": [one.name for one in shown],
            "nearest": list(shown[0].labels) if shown else [],
            "votes": {label: round(share, 6) for label, share in votes.items()},
            "voted": score.best(votes, [one.labels for one in shown]) if shown else None,
        }
        return made, {"done": len(made), **group, "wanted": list(person.labels), "refused": refused, **nearest}

    def examples(self, person: Person, pool: Views | None) -> list[Person]:
        """Find who is shown beside a person, the most alike first."""
        if pool is None:
            return []
        order = rank(self.retriever.look([person]), pool)[0, : self.shots]
        return [self.people.pool[i] for i in order.tolist()]

    def prompt(self, person: Person, shown: Sequence[Person]) -> Prompt:
        """Put the prompt of a person together: pictures with red boxes, rationales, labels, and the question.

        Raises:
            HeroError: a picture, a box or a text cannot be used.
        """
        told = [compose.Example(one.rationale, str(list(one.labels))) for one in shown]
        pictures = tuple(compose.red_box(one.look(), one.box) for one in [*shown, person])
        text = interleaved(self.processor, compose.parts(self.people.labels, told))
        inputs = self.processor(images=[list(pictures)], text=[text], return_tensors="pt")
        return Prompt(inputs.to(self.model.device, self.model.dtype), pictures, text)

    @torch.no_grad()
    def _answers(
        self, group: Mapping[str, Any], person: Person, prompt: Prompt, shown: Sequence[Person]
    ) -> tuple[list[records.Record], dict[str, str]]:
        """Look once, and answer under every budget; returns records, and why a budget has none."""
        requests = [config.request(len(shown), self.processor).on(self.model) for config in self.configs]
        clock = Clock(self.model.device)
        marks = [clock.start()]
        view = see(self.model, prompt.inputs, *requests)
        (look,) = clock.seconds([*marks, clock.mark()])
        made, refused = [], {}
        for config, request in zip(self.configs, requests, strict=True):
            try:
                text, facts_of_it = self._answer(view, request)
            except InputsError as error:  # too long for the model, where less may fit
                refused[str(config)] = reason(error)
                continue
            said = score.named(text, self.people.labels)
            told = {"method": config.method, "keep": list(config.examples), "query": config.query, "answer": text}
            right = {"said": list(said), "wanted": list(person.labels), "score": score.right(said, person.labels)}
            made.append({**group, "sample": person.name, **told, **right, **facts_of_it, "look": round(look, 6)})
        return made, refused

    def _answer(self, view: View, request: api.Request) -> tuple[str, dict[str, Any]]:
        """Choose, read and write one answer; returns it with positions and seconds."""
        clock = Clock(self.model.device)
        marks = [clock.start()]
        short = view.drop(request)
        marks.append(clock.mark())
        length = short["input_ids"].shape[1]
        then = "show fewer examples, keep less of them, or write shorter rationales"
        check_length(self.model, length, self.how["max_new_tokens"], then)

        def tick(_ids: Tensor, scores: Tensor) -> Tensor:
            marks.append(clock.mark())
            return scores

        tokenizer = self.processor.tokenizer
        end = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        how = {**(UNSET if not self.how["do_sample"] else {}), **self.how, "pad_token_id": end}
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with api.reading(self.model, short, request), torch.random.fork_rng(devices):
            torch.manual_seed(self.seed)  # the same draws for every budget
            out = self.model.generate(**{**short, **how}, logits_processor=[tick])
        marks.append(clock.mark())
        select, first, writing = clock.seconds([*marks[:3], marks[-1]])
        text = str(tokenizer.decode(out[0, length:], skip_special_tokens=True)).strip()
        counts = {"kept": [kept.positions for kept in short.kept], "of": [seen.positions for seen in short.seen]}
        seconds = {"select": round(select, 6), "first": round(first, 6), "rest": round(writing, 6)}
        return text, {**counts, "length": length, "seconds": seconds}
