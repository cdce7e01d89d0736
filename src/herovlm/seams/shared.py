"""Hooks that several users of a model share: put in for the first of them, taken out behind the last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

from herovlm.seams import scope


class Shared(ABC):
    """Whoever opens `installed()` belongs to it; bodies may overlap, in one thread or several."""

    def __init__(self) -> None:
        self.users, self.lock, self.hooked = 0, Lock(), ExitStack()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Hook into the model while the body runs; the hooks stay until the last body ends."""
        with self.lock:
            self.users += 1
            if self.users == 1:
                self._hook()
        try:
            with scope.opened(self):
                yield
        finally:
            with self.lock:
                self.users -= 1
                if not self.users:
                    self.hooked.close()

    @abstractmethod
    def _hook(self) -> None:
        """Put the hooks in, and into `hooked` what takes them out; each finds out by itself whom a call belongs to."""
