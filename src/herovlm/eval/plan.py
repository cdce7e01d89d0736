"""What is compared: methods at budgets, each a `Config`; its text is the name of a column in every result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from herovlm import api, spec
from herovlm.budget import Budget, Share, parse, read
from herovlm.methods.base import Method
from herovlm.methods.full import Full
from herovlm.methods.inside.base import Chain

FULL = "full@1.0"


@dataclass(frozen=True)
class Config:
    """A method, what it keeps, and how kept positions are numbered; None is the model family's own way.

    Its text is like "hero@0.2:original" or "hero@64t".
    """

    method: Method | Chain
    budget: Budget
    positions: api.Positions | None = None

    @property
    def original(self) -> bool:
        """Whether kept positions shall keep their numbers, by request."""
        return self.positions == "original"

    def __str__(self) -> str:
        return f"{self.method}@{self.budget}{':original' * self.original}"

    @cached_property
    def request(self) -> api.Request:
        """What `herovlm.drop` would make of it."""
        return api.Request.of(self.method, keep=self.budget, positions=self.positions)


def config(told: str) -> Config:
    """Read "hero@0.2" (a share), "thumbnail@64t" (a number of positions), "hero@0.2:original" (numbers kept)."""
    name, _, amount = told.rpartition("@")
    text, _, numbers = amount.partition(":")
    return Config(spec.parse(name), parse(text), "original" if numbers == "original" else None)


def configs(
    methods: Sequence[str],
    keeps: Sequence[api.AnyKeep],
    original: bool = False,
    positions: api.Positions | None = None,
) -> list[Config]:
    """Pair every method with every budget, behind the full model, which is always the yardstick.

    Args:
        methods: their specs.
        keeps: what each of them keeps.
        original: short for positions="original".
        positions: how kept positions are numbered; None is the model family's own way.

    Raises:
        HeroError: a method or budget that cannot be, before any work is done.
    """
    found, places = {FULL: Config(Full(), Share(1.0))}, "original" if original else positions
    for told in methods:
        method = spec.parse(told)
        whole = isinstance(method, Full) or (isinstance(method, Chain) and isinstance(method.before, Full))
        for keep in [1.0] if whole else keeps:
            one = Config(method, read(keep), None if isinstance(method, Full) else places)
            _ = one.request
            found.setdefault(str(one), one)
    return list(found.values())
