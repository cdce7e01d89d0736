"""What a page or a table shows: pictures, questions, and the answers of one or more methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from herovlm.budget import label
from herovlm.types import Kept, KeptInside, Seen
from herovlm.viz.geometry import Fit


@dataclass(frozen=True)
class Answer:
    """What one method answered, and what it cost."""

    method: str  # spec, such as "hero" or "hero(alpha=0.3)"
    keep: float | str  # what was asked for, as `herovlm.budget.told` writes it: 0.2, "64t", "auto(0.05)"
    text: str
    positions: int  # visual positions that the LLM read, all pictures (and all passes of a strategy) together
    of: int  # visual positions that the untouched model sends
    prefill: float  # seconds of the LLM over the whole prompt, until the first token
    cache: int  # bytes of keys and values after prefill
    views: tuple[tuple[Seen, Kept], ...]  # one a picture
    right: bool | None = None  # None when the true answer is not known
    inside: tuple[KeptInside, ...] = ()  # one a picture, where a method goes on inside the LLM
    vision: float = 0.0  # seconds of the vision tower and the signals that the method needs
    choosing: float = 0.0  # seconds of choosing and of rebuilding the prompt
    writing: float = 0.0  # seconds from the first token to the end of the answer, measured once
    facts: Mapping[str, Any] = field(default_factory=dict)  # what a strategy says of it, in plain values
    rounds: int = 1  # how often the stages before that were measured; they are medians

    @property
    def label(self) -> str:
        """How tables and pages call this answer: "hero, keep 0.2", or "full" when nothing was dropped."""
        whole = self.keep == 1.0 or (self.positions == self.of and not self.inside)
        return self.method if whole else f"{self.method}, {label(self.keep)}"

    @property
    def first_token(self) -> float:
        """Seconds until the first token: seeing, choosing and prefill; of the untouched model seeing and prefill."""
        return self.vision + self.choosing + self.prefill

    @property
    def seconds(self) -> float:
        """Seconds of the whole answer."""
        return self.first_token + self.writing

    @property
    def layers(self) -> tuple[int, ...]:
        """Visual positions in each layer of the LLM, all pictures together; empty where no method went on inside it."""
        return tuple(sum(counts) for counts in zip(*(kept.positions for kept in self.inside), strict=True))


@dataclass(frozen=True)
class Refused:
    """A method that could not answer, and why: a budget too small for it, a signal that this model cannot give."""

    method: str
    keep: float | str
    why: str
    failed: bool = False  # by an error that no method raises on purpose

    @property
    def label(self) -> str:
        """How tables and pages call it."""
        return f"{self.method}, {label(self.keep)}"


@dataclass(frozen=True)
class Asked:
    """A question with its answers, the same methods in the same order for every question of a page."""

    question: str
    answers: tuple[Answer, ...]
    kind: str | None = None  # of the question, such as "counting"
    truth: str | None = None
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True)
class Report:
    """All that one page shows."""

    title: str
    model: str
    pictures: tuple[tuple[str, Image.Image], ...]  # name, picture
    asked: tuple[Asked, ...]
    fit: Fit = "squeeze"  # how the model makes a tile of a whole picture
