"""The desk that questions come to: what is asked is checked, answered by the full model and by a few methods."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
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


class Session(Protocol):
    """What answers: `herovlm.cli.session.Session`."""

    @property
    def title(self) -> str:
        """What the page says about the model."""

    @property
    def fit(self) -> Fit:
        """How one tile is made of a whole picture."""

    def answer(
        self, pictures: Sequence[Image.Image], question: str, method: str, keep: float | int, new_tokens: int
    ) -> Answer:
        """Answer one question."""


class Desk:
    """Answers questions one at a time and remembers the last answers, whoever asked."""

    def __init__(self, session: Session, methods: Sequence[str], limits: Limits | None = None) -> None:
        self.session = session
        self.methods = tuple(methods)  # that can be asked for
        self.limits = limits or Limits()
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str, str, float], Answer] = OrderedDict()

    def ask(
        self, path: str | None, name: str, question: str, methods: Sequence[str], percent: float
    ) -> tuple[Image.Image, Asked]:
        """Answer with all visual positions first, then by each method with `percent` of them.

        Args:
            path: the file of the picture.
            name: how its owner calls it.
            question: the user's words.
            methods: one to `limits.methods` of `self.methods`.
            percent: of the visual positions, more than 0 and at most 100.

        Returns:
            The picture, and the answers; a method that cannot answer, or has no time left to, is among the refused.

        Raises:
            HeroError: what was asked is out of the limits, or no method can answer it.
        """
        question, chosen, keep = self._question(question), self._chosen(methods), _share(percent)
        picture, digest = self._picture(path, name)
        answers, refused, errors = [], [], []
        with self._lock:
            ends = time.monotonic() + self.limits.seconds
            for method, share in dict.fromkeys([("full", 1.0), *((method, keep) for method in chosen)]):
                try:
                    answers.append(self._answer(picture, (digest, question, method, share), ends))
                except HeroError as error:
                    refused.append(Refused(method, share, str(error)))
                    errors.append(error)
        if not answers:
            raise errors[0]
        return picture, Asked(question, tuple(answers), refused=tuple(refused))

    def _answer(self, picture: Image.Image, key: tuple[str, str, str, float], ends: float) -> Answer:
        if key not in self._known:
            if time.monotonic() > ends:
                raise UsageError(f"the {self.limits.seconds:g} seconds of a question are over; ask fewer methods")
            _, question, method, keep = key
            self._known[key] = self.session.answer([picture], question, method, keep, self.limits.new_tokens)
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


def _share(percent: float) -> float:
    if not 0 < percent <= 100:
        raise UsageError(f"{percent:g} % of the positions cannot be kept; choose more than 0 and at most 100")
    return percent / 100
