"""Which blocks of a vision tower are early and which are late: read from what its CLS token looks at, nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Floats = Any  # numpy array of float64
STRONG = 0.5  # silhouettes from here on are a reasonable structure (Kaufman and Rousseeuw)
SAMPLES, NEAR = 200, 1
FEWEST = 4  # blocks that can be parted


@dataclass(frozen=True)
class Suggestion:
    """Blocks to choose by, and how far to trust them."""

    low: tuple[int, ...]  # for local tiles
    high: tuple[int, ...]  # for the thumbnail
    switch: int  # first block of the late stage
    silhouette: float  # of the two stages, in -1..1: how much nearer a block is to its own stage
    agreement: float  # share of bootstrap samples with this switch (a block more or less) and higher norms behind it
    confidence: float  # in 0..1: agreement, and less where the silhouette is below 0.5

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON knows it."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


def suggest_layers(overlap: Floats, norms: Floats, low: int = 2, high: int = 1) -> Suggestion | None:
    """Suggest low and high layers for a tower by where its CLS attention switches.

    Blocks are parted in two where the top tokens of blocks on one side are alike and those of the two sides are not
    (the best mean silhouette, distance = 1 - overlap).  Of each stage the most typical blocks are suggested, those with
    the best silhouettes.  That late blocks look at patches with larger norms is what makes the later stage the one of
    artifact tokens; where they do not, confidence is low.

    Args:
        overlap: (P, L, L) of each picture: intersection over union of the top tokens of two blocks.
        norms: (P, L): mean rank of the norm of what a block looks at.
        low: how many blocks to suggest for the early stage.
        high: how many for the late one.

    Returns:
        None where the tower has fewer than four blocks, or there is no picture.
    """
    if not len(overlap) or overlap.shape[1] < FEWEST:
        return None
    switch, by_block = parted(overlap.mean(0))
    draws = np.random.default_rng(0).integers(0, len(overlap), (SAMPLES, len(overlap)))
    agreed = 0
    for drawn in draws:
        found, mean = parted(overlap[drawn].mean(0))[0], norms[drawn].mean(0)
        agreed += int(abs(found - switch) <= NEAR and mean[found:].mean() > mean[:found].mean())
    silhouette, agreement = float(by_block.mean()), agreed / SAMPLES
    return Suggestion(
        low=_best(by_block, range(switch), low),
        high=_best(by_block, range(switch, len(by_block)), high),
        switch=switch,
        silhouette=round(silhouette, 3),
        agreement=round(agreement, 3),
        confidence=round(agreement * min(1.0, max(0.0, silhouette) / STRONG), 3),
    )


def parted(overlap: Floats) -> tuple[int, Floats]:
    """Part blocks in two, at least two on each side: the first late block, and the silhouette of each block (L,)."""
    switches = range(2, len(overlap) - 1)
    by_switch = [silhouettes(1 - overlap, switch) for switch in switches]
    best = int(np.argmax([values.mean() for values in by_switch]))
    return switches[best], by_switch[best]


def silhouettes(distance: Floats, switch: int) -> Floats:
    """Silhouette of each block when those before `switch` are one cluster and the others another, (L,).

    As `sklearn.metrics.silhouette_samples`, which takes 36 times as long: ten seconds for the bootstrap of 24 blocks.
    """
    late = np.arange(len(distance)) >= switch
    same = late[:, None] == late[None]
    own = (distance * same).sum(1) / np.maximum(same.sum(1) - 1, 1)  # a block is no distance from itself
    other = (distance * ~same).sum(1) / (~same).sum(1)
    return (other - own) / np.maximum(np.maximum(own, other), np.finfo(float).tiny)


def _best(silhouettes: Floats, blocks: range, count: int) -> tuple[int, ...]:
    ranked = sorted(blocks, key=lambda block: (-silhouettes[block], block))
    return tuple(sorted(ranked[:count]))
