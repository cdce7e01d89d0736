"""The untouched model, as a method."""

from __future__ import annotations

from dataclasses import dataclass

from herovlm.methods.base import Method
from herovlm.types import Kept, Needs, Newlines, Seen


@dataclass(frozen=True, kw_only=True)
class Full(Method):
    """Keep every position, whatever the budget: the yardstick for the others."""

    name = "full"
    paper = "baseline"
    fidelity = "baseline"
    formula = "kept = everything"

    @property
    def exact(self) -> bool:
        """False: the budget is not looked at."""
        return False

    def needs(self, depth: int) -> Needs:
        """Nothing."""
        return Needs()

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Keep all the model sends."""
        return Kept(seen.valid.clone(), seen.grid.sent.clone())
