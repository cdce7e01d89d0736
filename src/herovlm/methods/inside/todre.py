"""ToDRE, second stage: when the text has stopped looking at the picture, the picture goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from herovlm.methods.base import Layer
from herovlm.methods.fields import within
from herovlm.methods.inside.base import Inside
from herovlm.methods.inside.common import cut_layers
from herovlm.types import Cut, NeedsInside, SeenInside


@dataclass(frozen=True, kw_only=True)
class ToDreLlm(Inside):
    """Remove all visual positions from a late layer on if text and picture hardly attend to each other (2505.18757).

    This is the paper's second stage: 'todre + todre_llm' is both.  It looks at the layer before the cut: what the text
    behind the first image pays to the visual positions, and they to that text, means over heads.  Both below the
    threshold: all of them go; else none.  All images of a prompt are one decision.  With the question behind the image
    the second attention is zero, as the mask is causal.  How many stay depends on the picture.
    """

    layer: Layer = 0.875  # cut before this layer; 0.875: after seven eighths of them
    threshold: float = 0.1  # share of the attention, τ

    name = "todre_llm"
    paper = "arXiv 2505.18757"
    fidelity = "from the paper"
    formula = "kept = nothing if α(text → visual) < τ and α(visual → text) < τ, else everything"

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        within(self, 0, 1, "threshold")

    @property
    def exact(self) -> bool:
        """False: all or nothing, as the picture has it."""
        return False

    def needs(self, depth: int) -> dict[int, NeedsInside]:
        """Attention from text to picture and back."""
        return {layer: NeedsInside(text=True, back=True) for layer in cut_layers((self.layer,), depth)}

    def counts(self, positions: int, depth: int) -> tuple[int, ...]:
        """All of them, at most."""
        return (positions,)

    def choose(self, seen: SeenInside) -> Cut:
        """Compare both attentions with the threshold; each row of attention sums to one."""
        text: Any = seen.text  # (Q, n)
        back: Any = seen.back  # (V,)
        gone = len(text) > 0 and max(float(text[:, seen.visual].sum(1).mean()), float(back.mean())) < self.threshold
        return Cut(torch.arange(0 if gone else len(seen.visual), device=seen.visual.device))
