"""What the engine was started with, and what one request asks for: as text, as requests, and on the way to a worker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from herovlm import budget, registry
from herovlm.errors import BudgetError, UnsupportedError, UsageError
from herovlm.plan import token_count
from herovlm.request import Request

PREFIX = "herovlm_"  # of names in `mm_processor_kwargs`
WHOLE = Request.of("full", keep=1.0)


@dataclass(frozen=True)
class Asked:
    """What one request says about its pictures; what it does not say is the engine's."""

    question: str | None = None  # the user's words; read from the prompt if not given
    keep: float | None = None
    tokens: int | None = None

    @classmethod
    def read(cls, given: Mapping[str, object]) -> Asked:
        """Read the `mm_processor_kwargs` of a request.

        Raises:
            UsageError: a name or a value that cannot be, or is no single one.
        """
        known = [PREFIX + field.name for field in fields(cls)]
        unknown = [name for name in given if name not in known]
        if unknown:
            raise UsageError(f"mm_processor_kwargs {', '.join(map(repr, unknown))}: give {', '.join(known)}, or none")
        own = cls(**{name.removeprefix(PREFIX): given[name] for name in known if given.get(name) is not None})  # type: ignore[arg-type]
        if not isinstance(own.question, str | None):
            raise UsageError(f"{PREFIX}question={own.question!r} is no text; give the user's words")
        most = budget.read(own.keep, own.tokens)
        if isinstance(most, budget.Auto) or most.listed:
            raise BudgetError(f"{PREFIX}keep and {PREFIX}tokens are one number each, for all pictures of the request")
        if isinstance(most, budget.Tokens):
            return cls(own.question, tokens=most.each)  # type: ignore[arg-type]
        return own if own.keep is None else cls(own.question, keep=most.each)  # type: ignore[arg-type]

    @property
    def given(self) -> dict[str, object]:
        """As `mm_processor_kwargs`, which vLLM's caches go by."""
        return {PREFIX + name: value for name, value in asdict(self).items() if value is not None}

    def sent(self) -> Tensor:
        """As bytes, (n,) uint8: what a worker is told of a picture."""
        return torch.frombuffer(bytearray(json.dumps(asdict(self)).encode()), dtype=torch.uint8)

    @classmethod
    def arrived(cls, sent: Tensor) -> Asked:
        """Read what `sent` made."""
        return cls(**json.loads(bytes(sent.tolist())))


@dataclass(frozen=True)
class Settings:
    """What the engine was started with: the fields of `herovlm.drop` that are one for all requests."""

    method: str = "hero"
    keep: float | None = None
    tokens: int | None = None
    newlines: str | None = None
    clip: str | None = None  # what scores the question, where the model does not say

    @classmethod
    def of(cls, config: Any) -> Settings:
        """Read them from the model's config, where `--hf-overrides` has put them.

        Raises:
            HeroError: they cannot be, or name what has no number of positions beforehand.
        """
        told = getattr(config, "herovlm", None) or {}
        known = [field.name for field in fields(cls)]
        if not isinstance(told, Mapping) or set(told) - set(known):
            raise UsageError(f"herovlm={told!r} in --hf-overrides: give a mapping of {', '.join(known)}")
        own = cls(**told)
        family = registry.family(SimpleNamespace(config=config))
        if family.positions[0] != "compact":
            raise UnsupportedError(f"{family.name} numbers its positions by places in the picture; vLLM would by rank")
        return own

    @classmethod
    def asking(cls, method: str, most: budget.Budget, clip: str | None = None) -> Settings:
        """Make them of a method's spec, a budget, and the CLIP that scores the question.

        Raises:
            BudgetError: a budget that is not one number for all pictures.
        """
        if isinstance(most, budget.Auto) or isinstance(most.each, tuple):
            raise BudgetError(f"keep={most}: vLLM is started with one budget for all pictures; give one such as 0.2")
        if isinstance(most, budget.Tokens):
            return cls(method, tokens=most.each, clip=clip)
        return cls(method, keep=most.each, clip=clip)

    def request(self, asked: Sequence[Asked]) -> Request:
        """Make the request for some pictures, one prompt each; all state their budgets in one unit.

        Raises:
            HeroError: as `herovlm.drop`.
        """
        keep, tokens = ([self.budget(one)[unit] for one in asked] for unit in (0, 1))
        told = any(one.question for one in asked)
        questions = [one.question or "" for one in asked] if told else None
        how = {"question": questions, "newlines": self.newlines}
        if tokens[0] is not None:
            return Request.of(self.method, tokens=tokens, **how)
        return Request.of(self.method, keep=keep, **how)

    def budget(self, asked: Asked) -> tuple[float | None, int | None]:
        """Return keep and tokens of a request, one of which is None."""
        own = (asked.keep, asked.tokens) if (asked.keep, asked.tokens) != (None, None) else (self.keep, self.tokens)
        return (budget.DEFAULT, None) if own == (None, None) else own

    def reads_question(self, config: Any) -> bool:
        """Find whether what is kept depends on the question, so that pictures are not shared between questions.

        Raises:
            HeroError: the method cannot be, or names a block that the model's tower lacks.
        """
        return Request.of(self.method).method.needs(config.vision_config.num_hidden_layers).question

    def count(self, config: Any, size: tuple[int, int], asked: Asked) -> int:
        """Count the positions of a picture (height, width) that a request is answered from.

        Raises:
            BudgetError: more than the engine was started with: its caches were sized for that.
            HeroError: as `herovlm.token_count`.
        """
        own, most = (_counted(config, size, self, self.budget(one)) for one in (asked, Asked()))
        if own > most:
            said = f"{PREFIX}tokens={asked.tokens}" if asked.keep is None else f"{PREFIX}keep={asked.keep}"
            raise BudgetError(
                f"{said} is {own:,} positions of a picture {size[1]} wide and {size[0]} high, and this server was "
                f"started for {most:,} of it; ask for less"
            )
        return own


@lru_cache(maxsize=64)
def _request(settings: Settings, budget: tuple[float | None, int | None]) -> Request:
    return Request.of(settings.method, keep=budget[0], tokens=budget[1], newlines=settings.newlines)


def _counted(config: Any, size: tuple[int, int], settings: Settings, budget: tuple[float | None, int | None]) -> int:
    return token_count(config, size, _request(settings, budget))
