"""Patches drawn by lot: what any method has to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

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
    fixed = True

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        within(self, -(2**63), 2**63 - 1, "seed")

    def needs(self, depth: int) -> Needs:
        """Nothing."""
        return Needs()

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Draw from a generator of our own: no device, neighbour or global state has a say."""
        draw = drawn(self.seed, tuple(seen.valid.shape), seen.valid.device).clone()
        patches = select.by_score(draw, seen, "image")
        return Kept(*fit(patches, seen, draw, budget, newlines), why={"score": draw})


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def drawn(seed: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Draw float32 numbers in [0, 1), as torch.rand does on the CPU; the same tensor for the same arguments."""
    return _drawn(seed, shape, device)


@lru_cache(maxsize=64)
def _drawn(seed: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    words = np.frombuffer(np.random.RandomState(seed % 2**32).bytes(4 * math.prod(shape)), "<u4")
    steps = int(2 / np.finfo(np.float32).eps)  # as many as a float32 tells apart
    return torch.from_numpy((words % steps).astype(np.float32) / steps).view(shape).to(device)
