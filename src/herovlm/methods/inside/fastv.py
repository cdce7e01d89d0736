"""FastV: after two layers the last token has seen the picture; what it did not look at goes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from herovlm.errors import MethodError
from herovlm.methods.base import Layer
from herovlm.methods.fields import within
from herovlm.methods.inside.base import Inside
from herovlm.methods.inside.common import best, cut_layers
from herovlm.types import Cut, NeedsInside, SeenInside


@dataclass(frozen=True, kw_only=True)
class FastV(Inside):
    """Keep the positions that the prompt's last token attends to most in the layer before (arXiv 2403.06764).

    From `layer` on only those are left.  The paper has one tile; here every image of a prompt keeps its own share, its
    tiles and newlines in one contest.  Kept positions keep their place, as in the authors' code.
    """

    layer: Layer = 2  # cut before this layer; 0.25: after a quarter of them
    keep: float | None = None  # share of an image's positions that stay; None: the call's mean, in a chain 0.5
    tokens: int | None = None  # instead of keep: number of an image's positions that stay

    name = "fastv"
    paper = "arXiv 2403.06764"
    fidelity = "golden parity"
    formula = "kept = top n of mean_heads A[last token], A: attention of the layer before"

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 1e-9, 1, "keep")
        within(self, 1, math.inf, "tokens")
        if self.keep is not None and self.tokens is not None:
            raise MethodError(f"{self}: expected keep or tokens, not both")

    @property
    def settled(self) -> bool:
        """Whether one of them is given."""
        return self.keep is not None or self.tokens is not None

    def needs(self, depth: int) -> dict[int, NeedsInside]:
        """The last token's attention."""
        return {layer: NeedsInside(last=True) for layer in cut_layers((self.layer,), depth)}

    def counts(self, positions: int, depth: int) -> tuple[int, ...]:
        """One number for all layers behind the cut."""
        if self.tokens is not None:
            return (min(self.tokens, positions),)
        return (max(1, round((0.5 if self.keep is None else self.keep) * positions)),)

    def choose(self, seen: SeenInside) -> Cut:
        """Take the highest mean over heads."""
        rows: Any = seen.last  # (H, n)
        return Cut(best(rows.float().mean(0)[seen.visual], seen))
