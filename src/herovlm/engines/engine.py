"""What a batch wants of whatever runs the model: questions about pictures in, answers out, in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image


@dataclass(frozen=True)
class Asked:
    """One question about one picture."""

    question: str
    picture: Image.Image


@dataclass(frozen=True)
class Answer:
    """What a model said, and how much of the picture it had read."""

    text: str
    kept: float  # visual positions that the language model read
    of: int  # those of the untouched model


class Engine(Protocol):
    """A model that is ready to answer; whoever runs it, rows, files and errors are the batch's."""

    def __call__(self, asked: Sequence[Asked]) -> list[Answer]:
        """Answer questions together, one answer each.

        Raises:
            SetupError: something is missing on this machine, whatever is asked.
            Exception: one of the questions cannot be answered; asked alone, each of the others can.
        """
