"""A score as a map of patches: its range, and where in it each patch stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from herovlm.viz import units

Each = Literal["patch", "tile", "group"]
GOLDEN = 0.618034  # neighbouring groups get colours far apart


@dataclass(frozen=True)
class Heat:
    """One score on one panel: one value a patch, one a tile, or the number of a patch's group."""

    values: Tensor  # (h, w) float32
    shown: Tensor  # (h, w) bool: patches that are sent and have a finite value
    each: Each
    low: float  # ends of the colour scale
    high: float

    @property
    def levels(self) -> Tensor:
        """Where the values stand on the colour scale: (h, w) in 0..1, nan where nothing is shown."""
        if self.each == "group":
            level = (self.values * GOLDEN).remainder(1)
        elif self.high > self.low:
            level = ((self.values - self.low) / (self.high - self.low)).clamp(0, 1)
        else:
            level = torch.full_like(self.values, 0.5)
        return level.masked_fill(~self.shown, torch.nan)

    @property
    def range(self) -> tuple[str, str]:
        """What is written at the ends of the scale; ≤ and ≥ where some values lie beyond."""
        seen = self.values[self.shown]
        low, high = units.number(self.low, 2), units.number(self.high, 2)
        below, above = bool((seen < self.low).any()), bool((seen > self.high).any())
        return "≤ " * below + low, "≥ " * above + high

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(set(self.values[self.shown].tolist()))


def heat(values: Tensor, valid: Tensor, each: Each) -> Heat:
    """Give values (h, w) a scale.

    A score of patches goes from its 1st to its 99th percentile, so that one outlier hides nothing; a score of tiles
    from 0, so that nearly equal tiles have nearly equal colours.
    """
    shown = valid & values.isfinite()
    seen = values[shown]
    low, high = 0.0, 0.0
    if len(seen) and each == "patch":
        low, high = torch.quantile(seen, torch.tensor([0.01, 0.99])).tolist()
    elif len(seen):
        low, high = min(0.0, float(seen.min())), max(0.0, float(seen.max()))
    return Heat(values, shown, each, low, high)
