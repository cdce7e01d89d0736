"""Patches drawn by lot: what any method has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from herovlm.methods.base import Method
from herovlm.methods.fields import within
from herovlm.ops import select
from herovlm.ops.fit import fit
from herovlm.types import Kept, Needs, Newlines, Seen


@dataclass(frozen=True, kw_only=True)
class Random(Method):
    """Keep patches drawn uniformly from all tiles, the same draw for the same seed and image shape."""

    seed: int = 0  # another seed is another draw

    name = "random"
    paper = "baseline"
    fidelity = "baseline"
    formula = "kept = a uniform draw of P of all valid patches"

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        within(self, -(2**63), 2**63 - 1, "seed")

    def needs(self, depth: int) -> Needs:
        """Nothing."""
        return Needs()

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Draw on the CPU from a generator of our own: no device, neighbour or global state has a say."""
        draw = torch.rand(seen.valid.shape, generator=torch.Generator().manual_seed(self.seed)).to(seen.valid.device)
        patches = select.by_score(draw, seen.valid, "image")
        return Kept(*fit(patches, seen, draw, budget, newlines), why={"score": draw})
