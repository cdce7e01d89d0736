"""What an answer cost beside the first one, in the same words on every page and in every table."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from herovlm.viz.records import Answer, Asked

ALIKE = 0.05  # a difference that is none, of the full model's cost
FIRST, WHOLE = "first token", "whole answer"
MEANING = (
    "First token is the time until the answer begins: the vision tower sees the picture (and records what a method "
    "needs), the method chooses, and the language model reads the prompt once (prefill); the full model sees and "
    "reads.  Whole answer is that and writing it."
)


def beside(of: float, this: float, less: str = "faster", more: str = "slower") -> tuple[str, str]:
    """Compare a cost with that of the full model: ("gain", "1.6 x faster"), ("loss", "1.2 x slower"), or nothing."""
    if not this or not of or 1 - ALIKE <= this / of <= 1 + ALIKE:
        return "", ""
    return ("gain", f"{of / this:.1f} x {less}") if this < of else ("loss", f"{this / of:.1f} x {more}")


def middle(answers: Sequence[Answer], name: str) -> float:
    """Median of one number over the answers of a method to several questions."""
    return float(median(getattr(answer, name) for answer in answers))


def compared(asked: Sequence[Asked]) -> list[str]:
    """Compare every method with the full model, over all questions: one line a method, none without the full model.

    A line is "hero, keep 0.2, beside full: first token 1.6 x faster, whole answer 1.1 x slower".
    """
    by_method: dict[str, list[Answer]] = {}
    for one in asked:
        for answer in one.answers:
            by_method.setdefault(answer.label, []).append(answer)
    full = by_method.pop("full", None)
    if full is None:
        return []
    lines = []
    for label, answers in by_method.items():
        parts = []
        for name, what in ((FIRST, "first_token"), (WHOLE, "seconds")):
            words = beside(middle(full, what), middle(answers, what))[1]
            parts.append(f"{name} {words or 'as fast'}")
        lines.append(f"{label}, beside full: {', '.join(parts)}")
    return lines


def measured(answers: Sequence[Answer]) -> str:
    """How often the times of these answers were measured, as a sentence."""
    rounds = min((answer.rounds for answer in answers), default=1)
    first = f"in {rounds} rounds side by side (the median)" if rounds > 1 else "once"
    return f"The first token was timed {first}, the rest of each answer once; on a busy machine both jump."
