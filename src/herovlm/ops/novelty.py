"""How little a patch repeats the patches that are thought better of: spread without a greedy loop."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def novelty(states: Tensor, ranks: Tensor) -> Tensor:
    """Measure how unlike each patch is to every better patch of its tile: 1 minus the largest cosine, at least 0.

    One product of matrices and no loop over patches, as Matrix NMS does for masks (SOLOv2, arXiv 2003.10152): what
    stands in the way of a patch is any better one, kept or not.  The best patch of a tile has novelty 1.

    Args:
        states: (T, N, C) what the patches are compared by.
        ranks: (T, N) int64 from `select.ranks`.

    Returns:
        (T, N) float32 in 0..1.
    """
    units = functional.normalize(states.float(), dim=-1)
    other = ranks[:, None, :] >= ranks[:, :, None]  # (T, N, N): the patch of the column is not a better one
    return (1 - (units @ units.mT).masked_fill(other, -torch.inf).amax(-1)).clamp(0, 1)
