"""Made-up CLS attention whose structure is known."""

from __future__ import annotations

from typing import Any

import numpy as np

Floats = Any


def two_stages(depth: int, switch: int, pictures: int = 6, noise: float = 0.05) -> tuple[Floats, Floats]:
    """Overlaps (P, L, L) and norm ranks (P, L) of a tower that switches from one set of tokens to another."""
    rng = np.random.default_rng(depth)
    late = np.arange(depth) >= switch
    alike = np.where(late[:, None] == late[None], 0.7, 0.1)
    wobble = rng.uniform(-noise, noise, (pictures, depth, depth))
    overlap = alike + (wobble + wobble.swapaxes(1, 2)) / 2
    overlap[:, range(depth), range(depth)] = 1.0
    norms = np.where(late, 0.85, 0.45) + rng.uniform(-noise, noise, (pictures, depth))
    return overlap, norms


def one_stage(depth: int, pictures: int = 6) -> tuple[Floats, Floats]:
    """The same for a tower whose blocks have nothing to do with each other."""
    rng = np.random.default_rng(depth)
    overlap = rng.uniform(0, 0.3, (pictures, depth, depth))
    overlap = (overlap + overlap.swapaxes(1, 2)) / 2
    overlap[:, range(depth), range(depth)] = 1.0
    return overlap, rng.uniform(0.4, 0.6, (pictures, depth))
