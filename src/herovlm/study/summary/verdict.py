"""One rule for all findings: what the numbers say, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from herovlm.study.summary.numbers import Number

HOLDS, FAILS, OPEN = "holds", "does not hold", "undecided here"
RULE = (
    "A finding holds where the 95 % intervals of all its numbers lie above 0, it does not hold where one of them lies "
    "below 0, and else it is undecided here."
)


def word(claims: Sequence[Number]) -> str:
    """Apply the rule to numbers that a finding says are above 0."""
    if not claims or any(claim["value"] is None for claim in claims):
        return OPEN
    if any(claim["high"] < 0 for claim in claims):
        return FAILS
    return HOLDS if all(claim["low"] > 0 for claim in claims) else OPEN


def verdict(finding: str, claims: Sequence[Number], told: str) -> dict[str, Any]:
    """Write the one sentence that ends a finding.

    Args:
        finding: what is claimed.
        claims: the numbers that the finding says are above 0.
        told: the numbers in words.
    """
    said = word(claims)
    return {"word": said, "sentence": f"{finding}: {said}; {told}."}


def spell(number: Number, digits: int = 2, sign: bool = False) -> str:
    """Write a number with its interval: "0.63 [0.60, 0.66]"."""
    if number["value"] is None:
        return "not measured"
    value, low, high = (f"{round(number[n], digits) + 0.0:{'+' * sign}.{digits}f}" for n in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
