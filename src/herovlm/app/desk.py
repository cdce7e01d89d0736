"""The desk that questions come to: what is asked is checked, answered by the full model and by a few methods."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from PIL import Image

from herovlm.errors import HeroError, PictureError, UsageError
from herovlm.pictures import open_picture
from herovlm.viz.geometry import Fit
from herovlm.viz.records import Answer, Asked, Refused

REMEMBERED = 64  # answers; the full model need not answer again when the slider moves


@dataclass(frozen=True)
class Limits:
    """How much one user may ask for."""

    bytes: int = 20_000_000  # of the file of a picture
    pixels: int = 40_000_000
    letters: int = 500  # of a question
    methods: int = 4
    new_tokens: int = 64
    seconds: float = 120.0  # of all answers to one question
    waiting: int = 16  # questions of all users


class StoppedError(Exception):
    """Whoever asked does not want the answer any more."""


class Session(Protocol):
    """What answers: `herovlm.cli.session.Session`."""

    @property
    def title(self) -> str:
        """What the page says about the model."""

    @property
    def fit(self) -> Fit:
        """How one tile is made of a whole picture."""

    @property
    def reads(self) -> str | None:
        """What alone the model can read, where that is little."""

    def answer(
        self,
        pictures: Sequence[Image.Image],
        question: str,
        method: str,
        keep: float,
        new_tokens: int,
        pulse: Callable[[], None],
    ) -> Answer:
        """Answer one question; what `pulse` raises ends it."""

    def timed(
        self,
        pictures: Sequence[Image.Image],
        question: str,
        plan: Sequence[tuple[str, float]],
        answers: Sequence[Answer],
        pulse: Callable[[], None],
    ) -> tuple[Answer, ...]:
        """Time answers side by side."""


class Desk:
    """Answers questions one at a time and remembers the last answers, whoever asked."""

    def __init__(self, session: Session, methods: Sequence[str], limits: Limits | None = None) -> None:
        self.session = session
        self.methods = tuple(methods)  # that can be asked for
        self.limits = limits or Limits()
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str, str, float], Answer] = OrderedDict()
        self._stops: dict[str, threading.Event] = {}

    def stop(self, who: str) -> None:
        """End what someone waits for; the questions of others go on."""
        if stop := self._stops.get(who):
            stop.set()

    def ask(
        self, path: str | None, name: str, question: str, methods: Sequence[str], percent: float, who: str = ""
    ) -> tuple[Image.Image, Asked]:
        """Answer with all visual positions first, then by each method with `percent` of them.

        Args:
            path: the file of the picture.
            name: how its owner calls it.
            question: the user's words.
            methods: one to `limits.methods` of `self.methods`.
            percent: of the visual positions, more than 0 and at most 100.
            who: asks, and may stop it.

        Returns:
            The picture, and the answers; a method that cannot answer, or has no time left to, is among the refused.

        Raises:
            HeroError: what was asked is out of the limits.
            StoppedError: it was not wanted any more.
            Exception: no method can answer it; why the first cannot.
        """
        question, chosen, keep = self._question(question), self._chosen(methods), _share(percent)
        plan = list(dict.fromkeys([("full", 1.0), *((method, keep) for method in chosen)]))
        self._stops[who] = stop = threading.Event()  # before the picture is opened, which may take a while
        try:
            picture, digest = self._picture(path, name)
            with self._lock:
                return picture, self._answers(picture, digest, question, plan, stop)
        finally:
            if self._stops.get(who) is stop:
                del self._stops[who]

    def _answers(
        self, picture: Image.Image, digest: str, question: str, plan: Sequence[tuple[str, float]], stop: threading.Event
    ) -> Asked:
        """Answer by each (method, share) of a plan, whatever the others do, and time them side by side."""
        ends = time.monotonic() + self.limits.seconds
        done, answers, refused, errors = [], [], [], []

        def pulse() -> None:
            if stop.is_set():
                raise StoppedError

        for method, share in plan:
            pulse()
            try:
                answers.append(self._answer(picture, (digest, question, method, share), ends, pulse))
                done.append((method, share))
            except StoppedError:
                raise
            except Exception as error:
                refused.append(Refused(method, share, _why(error)))
                errors.append(error)
        if not answers:
            raise errors[0]
        if time.monotonic() < ends:
            with suppress(RuntimeError):  # no memory, say: each has the time of its own answer
                answers = list(self.session.timed([picture], question, done, answers, pulse))
        return Asked(question, tuple(answers), refused=tuple(refused))

    def _answer(
        self, picture: Image.Image, key: tuple[str, str, str, float], ends: float, pulse: Callable[[], None]
    ) -> Answer:
        if key not in self._known:
            if time.monotonic() > ends:
                raise UsageError(f"the {self.limits.seconds:g} seconds of a question are over; ask fewer methods")
            _, question, method, keep = key
            self._known[key] = self.session.answer([picture], question, method, keep, self.limits.new_tokens, pulse)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def _picture(self, path: str | None, name: str) -> tuple[Image.Image, str]:
        """Open a picture, and name its content."""
        if not path:
            raise PictureError("there is no picture yet; put one in, or take an example")
        try:
            size = Path(path).stat().st_size
        except FileNotFoundError:
            raise PictureError(f"{name} was removed after an hour (or as too many came); put it in again") from None
        if size > self.limits.bytes:
            raise PictureError(
                f"{name} has {size / 1e6:.0f} MB, more than {self.limits.bytes / 1e6:.0f}; make it smaller"
            )
        try:
            return open_picture(path, limit=self.limits.pixels), sha256(Path(path).read_bytes()).hexdigest()
        except PictureError as error:  # nobody knows the file by the name that it has here
            raise PictureError(str(error).replace(str(path), name)) from error

    def _question(self, question: str) -> str:
        words = question.strip()
        if not words:
            raise UsageError("there is no question yet; write one")
        if len(words) > self.limits.letters:
            raise UsageError(f"the question has {len(words):,} letters, more than {self.limits.letters}; shorten it")
        return words

    def _chosen(self, methods: Sequence[str]) -> Sequence[str]:
        unknown = [method for method in methods if method not in self.methods]
        if unknown:
            raise UsageError(f"there is no method {unknown[0]!r} here; choose from the list")
        if not 1 <= len(methods) <= self.limits.methods:
            raise UsageError(f"{len(methods)} methods are chosen; choose one to {self.limits.methods}")
        return methods


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, HeroError) else f"this failed: unexpected {type(error).__name__}"


def _share(percent: float) -> float:
    if not 0 < percent <= 100:
        raise UsageError(f"{percent:g} % of the positions cannot be kept; choose more than 0 and at most 100")
    return percent / 100
