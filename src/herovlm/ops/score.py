"""How much the CLS token, or what stands in for it, looks at each patch, and how near the tiles are to the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from herovlm.errors import MethodError
from herovlm.types import Seen, Signal


def rows(seen: Seen, signal: Signal, layers: Sequence[int], *, again: bool = False) -> Tensor:
    """Score patches by the attention that a method was told to read; `methods.base.read` says what it needs.

    Args:
        seen: What the tower saw.
        signal: "cls": CLS rows; "received": what patches receive from all patches, mean of the heads and layers;
            "probe": rows of the pooling head, mean of its heads; it stands behind all layers.
        layers: Blocks to average; of no account to the pooling head.
        again: As for `cls_rows`, which alone have it.

    Returns:
        (T, N) float32.

    Raises:
        MethodError: the signal was not recorded.
    """
    if signal == "cls":
        return cls_rows(seen.attention, layers, again=again)
    if signal == "received":
        _recorded("attention received in", seen.received, layers)
        return torch.stack([seen.received[layer].float() for layer in layers]).mean(0)
    if seen.probe is None:
        raise MethodError("rows of the pooling head are wanted, and none were recorded")
    return seen.probe.float().mean(1)


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
    _recorded("attention of", attention, layers)
    rows = [attention[layer].float() for layer in layers]  # each (T, H, N)
    all_ = torch.cat(rows, 1) if len(rows) > 1 else rows[0]  # (T, layers * H, N)
    return (all_.softmax(-1) if again else all_).mean(1)


def saliency(states: Tensor, shares: Tensor | None = None) -> Tensor:
    """Cosine of each tile's state with that of the whole picture.

    Args:
        states: (T, D), such as CLS states; tile 0 is the overview if no shares are given.
        shares: (T,) of the picture that each tile shows: without an overview the whole picture is the mean of the unit
            states, so weighted.

    Returns:
        (T,) float32.
    """
    unit = torch.nn.functional.normalize(states.float(), dim=-1)
    return unit @ (unit[0] if shares is None else torch.nn.functional.normalize(shares.float() @ unit, dim=-1))


def pooled(states: Tensor, weight: Tensor) -> Tensor:
    """Sum the states of each tile's patches by weight: (T, N, C), (T, N) none negative -> (T, C) float32."""
    return torch.einsum("tn,tnc->tc", weight.float(), states.float())


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


def _recorded(what: str, found: Mapping[int, Tensor], layers: Sequence[int]) -> None:
    """Check that all the blocks were recorded."""
    if not layers or any(layer not in found for layer in layers):
        raise MethodError(f"{what} blocks {list(layers)} is wanted, blocks {sorted(found)} were recorded")
