"""`keep="auto"`: as many positions as a picture has something to say, for a loss that was stated beforehand.

A picture is worth as many positions as it has different patches: each patch counts by its novelty beside the patches
before it.  How many positions one of these needs was measured on development scenes of the demo model, and the curve
checked on others (benchmarks/auto.py).  Another model has another curve: measure it there before you trust the promise.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from herovlm.errors import BudgetError, MethodError
from herovlm.ops import select
from herovlm.ops.novelty import novelty
from herovlm.types import Seen

# loss (share of the full model's accuracy), positions for each different patch; from benchmarks/results/auto.json
CURVE = (
    (0.0093, 8.0),
    (0.0177, 5.6),
    (0.0273, 4.0),
    (0.0467, 2.8),
    (0.0714, 2.0),
    (0.122, 1.4),
    (0.187, 1.0),
    (0.2524, 0.7),
    (0.3547, 0.5),
    (0.4813, 0.35),
)
WRITTEN = re.compile(r"auto(?:\((?:loss=)?(?P<loss>[0-9.e-]+)\))?")


@dataclass(frozen=True)
class Auto:
    """How many positions to keep by what is in the picture; `loss` is the share of the accuracy that may go."""

    loss: float = 0.05
    curve: tuple[tuple[float, float], ...] = CURVE  # of the model: (loss, positions for each different patch)

    def __post_init__(self) -> None:
        """Check the loss.

        Raises:
            BudgetError: it is not between 0 and 1.
        """
        if not 0 < self.loss < 1:
            raise BudgetError(f"auto({self.loss}): the loss is a share of the accuracy, between 0 and 1, such as 0.05")

    def __str__(self) -> str:
        return f"auto({self.loss:g})"

    def budget(self, seen: Seen) -> int:
        """Number of positions for what was seen, at least 1 and at most all of them."""
        each = positions_each(self.loss, self.curve)
        return seen.positions if math.isinf(each) else max(1, min(seen.positions, round(each * different(seen))))


def read(text: str) -> Auto:
    """Read "auto", "auto(0.02)" or "auto(loss=0.02)".

    Raises:
        BudgetError: it is none of these.
    """
    found = WRITTEN.fullmatch(text.replace(" ", ""))
    try:
        loss = float(found["loss"] or Auto.loss) if found else math.nan
    except ValueError:
        loss = math.nan
    if math.isnan(loss):
        how = "give a share, a whole number of positions, or 'auto(loss=0.02)'"
        raise BudgetError(f"keep={text!r} is not a number; {how}")
    return Auto(loss)


def different(seen: Seen) -> float:
    """Count the different patches of a picture: the sum of the novelty of each beside those before it in its tile.

    Raises:
        MethodError: the states of the patches were not recorded.
    """
    if seen.hidden is None:
        raise MethodError("keep='auto' counts different patches by their states, which were not recorded")
    order = select.ranks(seen.valid.new_zeros(seen.valid.shape, dtype=seen.hidden.dtype), seen.valid)
    return float((novelty(seen.hidden, order) * seen.valid).sum())


def positions_each(loss: float, curve: Sequence[tuple[float, float]] = CURVE) -> float:
    """Positions for each different patch that lose no more, read off a curve; infinite below its first point."""
    losses = [point for point, _ in curve]
    if loss < losses[0]:
        return math.inf
    if loss >= losses[-1]:
        return curve[-1][1]
    at = bisect_right(losses, loss)
    (low, more), (high, fewer) = curve[at - 1], curve[at]
    return more * math.pow(fewer / more, (loss - low) / (high - low))
