"""SparseVLM+: the words that fit the picture rate it, by the heads that look at it, whatever the distance between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from herovlm.errors import MethodError
from herovlm.methods.base import Layer
from herovlm.methods.fields import within
from herovlm.methods.inside.base import Inside
from herovlm.methods.inside.common import best, check_stages, cut_layers, in_proportion, raters
from herovlm.types import Cut, NeedsInside, SeenInside


@dataclass(frozen=True, kw_only=True)
class SparseVlmPlus(Inside):
    """Rate by words that fit the picture, with heads that look at it and distance divided out (arXiv 2410.04417).

    This is version 2.0 of the authors' code.  Raters and counts are those of `sparsevlm`; nothing is merged, and what
    stays keeps its place.  The attention of the layer before is divided by what rotation by position makes of two
    vectors of ones at that distance, g, so that words far from a position count too; then the heads with the largest
    sum between raters and picture are averaged.  On long prompts g comes near zero and below: it is never taken as
    less than `floor` of what it is without distance, which changes nothing up to a distance of 720 where heads have 128
    channels (one tile of LLaVA-1.5 has 576 positions).
    """

    layers: tuple[Layer, ...] = (0.09375, 0.21875, 0.5)  # cut before these; the code cuts behind layers 2, 6, 15 of 32
    keep: float | None = None  # share that stays behind the last cut; None: the call's mean, in a chain 110/576
    plain: tuple[int, ...] | None = None  # instead of keep: positions that stay at each cut, such as (300, 200, 110)
    heads: float | int = 0.4375  # share (or number) of the heads that rate; the code's 14 of 32
    floor: float | None = 0.1  # smallest g, as a share of g without distance; None: g as it is, as in the code

    name = "sparsevlm_plus"
    paper = "arXiv 2410.04417"
    fidelity = "golden parity"
    formula = "kept = top n of mean_{raters, best heads} A[text, visual] / g(distance), g(x) = 2/√d · Σ_i cos(x·θ[i])"
    published = (
        "It takes g as it is, also where it is next to zero or negative (from distance 1,707 on for heads of 128 "
        "channels), and 14 heads of any model; that is floor=None and heads=14."
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 1e-9, 1, "keep", "floor")
        if not (0 < self.heads <= 1 if isinstance(self.heads, float) else self.heads >= 1):
            raise MethodError(f"sparsevlm_plus(heads={self.heads!r}): expected a share in (0, 1], or a number from 1")
        check_stages(self)

    @property
    def settled(self) -> bool:
        """Whether its own fields say how many positions stay."""
        return self.keep is not None or self.plain is not None

    def needs(self, depth: int) -> dict[int, NeedsInside]:
        """Attention of the text head by head, what rotation does, and states as they entered, to find the raters."""
        return {layer: NeedsInside(heads=True, turned=True, entered=True) for layer in cut_layers(self.layers, depth)}

    def counts(self, positions: int, depth: int) -> tuple[int, ...]:
        """Fewer at each cut: the authors' proportions, or the numbers given."""
        if self.plain is None:
            return in_proportion(positions, self.keep)
        return tuple(min(positions, *self.plain[: stage + 1]) for stage in range(len(self.plain)))

    def choose(self, seen: SeenInside) -> Cut:
        """Divide distance out, find the heads that look at the picture, and let the raters rate by them."""
        rating = raters(seen, self.name)  # (Q,)
        rows: Any = seen.heads  # (H, Q, n)
        turned: Any = seen.turned  # (n, C)
        column = torch.arange(len(turned), device=turned.device)
        words = column[(column > seen.visual[0]) & ~torch.isin(column, seen.visual)][rating]  # (R,)
        g = turned[words] @ turned[seen.visual].T / turned.shape[1]  # (R, V) as a share of what it is at distance 0
        g = g if self.floor is None else g.clamp(min=self.floor)
        fair = rows[:, rating][..., seen.visual] / g  # (H, R, V)
        order = fair.sum((1, 2)).sort(descending=True, stable=True).indices
        count = self.heads if isinstance(self.heads, int) else max(1, round(self.heads * len(fair)))
        return Cut(best(fair[order[:count]].mean((0, 1)), seen))
