"""How much the CLS token looks at each patch, and how near the tiles are to the thumbnail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from herovlm.errors import MethodError


def cls_rows(attention: Mapping[int, Tensor], layers: Sequence[int], *, again: bool = False) -> Tensor:
    """Score patches by CLS attention: the mean over heads, then over layers, in float32.

    Args:
        attention: Block -> (T, H, N) softmax attention of the CLS query, the CLS key dropped.
        layers: Blocks to average.
        again: Put a second softmax over each row first, as the authors of HERO do (it all but flattens the row).

    Returns:
        (T, N) float32.

    Raises:
        MethodError: a block was not recorded.
    """
    missing = [layer for layer in layers if layer not in attention]
    if missing or not layers:
        raise MethodError(f"attention of blocks {list(layers)} is wanted, blocks {sorted(attention)} were recorded")
    rows = [attention[layer].float() for layer in layers]  # each (T, H, N)
    all_ = torch.cat(rows, 1) if len(rows) > 1 else rows[0]  # (T, layers * H, N)
    return (all_.softmax(-1) if again else all_).mean(1)


def saliency(cls: Tensor) -> Tensor:
    """Cosine of each tile's CLS state with the thumbnail's.

    Args:
        cls: (T, D), tile 0 is the thumbnail.

    Returns:
        (T,) float32.
    """
    unit = torch.nn.functional.normalize(cls.float(), dim=-1)
    return unit @ unit[0]


def outliers(scores: Tensor) -> Tensor:
    """Count what is high in each row: more than 1.5 interquartile ranges above the third quartile.

    Args:
        scores: (T, N); NaN is left out.

    Returns:
        (T,) int64.
    """
    among = scores.double()
    quarters = torch.tensor([0.25, 0.75], dtype=among.dtype, device=among.device)
    low, high = torch.nanquantile(among, quarters, dim=1)  # each (T,); NaN, and so no outlier, where all are left out
    count: Tensor = (among > (high + 1.5 * (high - low))[:, None]).sum(1)
    return count
