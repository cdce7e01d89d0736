"""The contract of what goes on behind a shortened prompt: one way in for pruning between layers and for decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from herovlm.types import KeptInside, Short


class Passage(Protocol):
    """One prompt on its way through a stage."""

    @property
    def inside(self) -> tuple[KeptInside, ...]:
        """What was kept of each image, once the model has read the prompt."""


class Stage(Protocol):
    """Works while a model reads a shortened prompt and writes its answer.

    Any number of threads may use one: what was prepared belongs to the thread that prepared it.
    """

    def prepare(self, short: Short, *, again: bool = False) -> Passage | None:
        """Get ready for a prompt, which the model reads once, or `again` and again; None where there is nothing to do.

        Raises:
            HeroError: it cannot be done with this prompt.
        """

    def installed(self) -> AbstractContextManager[None]:
        """Be part of the model while the body runs; bodies may overlap."""

    def generate_kwargs(self, setting: Callable[[str], Any]) -> Mapping[str, Any]:
        """Return options that generate() needs, given those that it has.

        Raises:
            UnsupportedError: one of those goes silently wrong with this stage.
        """

    def check_call(self, given: Mapping[str, Any]) -> None:
        """Check the arguments of a direct `model(...)`.

        Raises:
            UnsupportedError: one goes silently wrong with this stage.
        """

    def finish(self, passage: Passage | None) -> None:
        """Check that a prompt went through, once generate() has returned, and forget it.

        Raises:
            UnsupportedError: it did not.
        """

    def forget(self) -> None:
        """Forget what this thread was to read, if it has not."""
