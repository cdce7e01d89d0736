"""What is compared: methods at budgets, each a `Config`; its text is the name of a column in every result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from herovlm import api, spec
from herovlm.methods.base import Method
from herovlm.methods.full import Full
from herovlm.methods.inside.base import Chain

FULL = "full@1.0"


@dataclass(frozen=True)
class Config:
    """A method, what it keeps, and whether kept positions keep their numbers; its text is like "hero@0.2:original"."""

    method: Method | Chain
    keep: float | int
    original: bool = False

    def __str__(self) -> str:
        return f"{self.method}@{self.keep}{':original' * self.original}"

    @cached_property
    def options(self) -> api.Options:
        """What `herovlm.drop` would make of it."""
        places: api.Positions = "original" if self.original else "compact"
        return api.options_of(self.method, self.keep, None, None, places, None)


def config(told: str) -> Config:
    """Read "hero@0.2" (a share), "thumbnail@64" (a number of positions), "hero@0.2:original" (numbers kept)."""
    name, _, amount = told.rpartition("@")
    keep, _, numbers = amount.partition(":")
    return Config(spec.parse(name), int(keep) if keep.isdigit() else float(keep), numbers == "original")


def configs(methods: Sequence[str], keeps: Sequence[float | int], original: bool = False) -> list[Config]:
    """Pair every method with every keep, behind the full model, which is always the yardstick.

    Raises:
        HeroError: a method or keep that cannot be, before any work is done.
    """
    found = {FULL: Config(Full(), 1.0)}
    for told in methods:
        method = spec.parse(told)
        whole = isinstance(method, Full) or (isinstance(method, Chain) and isinstance(method.before, Full))
        for keep in [1.0] if whole else keeps:
            one = Config(method, keep, original and not isinstance(method, Full))
            _ = one.options
            found.setdefault(str(one), one)
    return list(found.values())
