"""Whether an answer is right, where the right answer is known."""

from __future__ import annotations

from dataclasses import replace

from herovlm.viz.records import Asked


def judged(asked: Asked, truth: str, kind: str | None = None) -> Asked:
    """Judge every answer."""
    answers = tuple(replace(answer, right=right(answer.text, truth)) for answer in asked.answers)
    return replace(asked, answers=answers, kind=kind, truth=truth)


def right(text: str, truth: str) -> bool:
    """Whether the words of the truth stand in the answer, side by side; case and punctuation around them are nothing.

    "The sign says STOP." is right where the truth is "stop"; "1472" is not where it is "472".
    """
    said, true = _words(text), _words(truth)
    return any(said[i : i + len(true)] == true for i in range(len(said) - len(true) + 1))


def _words(text: str) -> list[str]:
    words = (word.strip(".,;:!?()[]\"'“”‘’*") for word in text.casefold().split())
    return [word for word in words if word]
