"""FastV: after two layers the last token has seen the picture; what it did not look at goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from herovlm.methods.base import Layer
from herovlm.methods.inside.base import Inside
from herovlm.methods.inside.common import Keep, best, resolve, share_of
from herovlm.types import Cut, Look, Reads, budget_of


@dataclass(frozen=True, kw_only=True)
class FastV(Inside):
    """Keep the positions that the prompt's last token attends to most in the layer before (arXiv 2403.06764).

    From `layer` on only those are left.  The paper has one tile; here every image of a prompt keeps its own share, its
    tiles and newlines in one contest.  Kept positions keep their place, as in the authors' code.
    """

    layer: Layer = 2  # cut before this layer; 0.25: after a quarter of them
    keep: Keep = None  # share (or number) of an image's positions that stay; None: the call's mean, in a chain 0.5

    name = "fastv"
    paper = "arXiv 2403.06764"
    fidelity = "golden parity"
    formula = "kept = top n of mean_heads A[last token], A: attention of the layer before"

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        share_of(self, self.keep)

    def needs(self, depth: int) -> dict[int, Reads]:
        """The last token's attention."""
        return {layer: Reads(last=True) for layer in resolve((self.layer,), depth)}

    def counts(self, positions: int, depth: int) -> tuple[int, ...]:
        """One number for all layers behind the cut."""
        return (budget_of(0.5 if self.keep is None else self.keep, positions),)

    def choose(self, look: Look) -> Cut:
        """Take the highest mean over heads."""
        rows: Any = look.last  # (H, n)
        return Cut(best(rows.float().mean(0)[look.visual], look))
