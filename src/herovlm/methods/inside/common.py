"""What several inside methods share: layers, counts, and the best positions of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from herovlm.errors import MethodError
from herovlm.methods.base import Layer
from herovlm.ops import select
from herovlm.types import SeenInside

SPARSE = (300 / 576, 200 / 576, 110 / 576)  # SparseVLM's counts for 192 tokens a layer, as shares of one tile


def cut_layers(layers: Sequence[Layer], depth: int) -> tuple[int, ...]:
    """Turn layers (int: cut before this one, float: share of the layers that run before) into ascending layers.

    Relative layers that fall together in a small model make room for each other.
    """
    found: list[int] = []
    for layer in layers:
        first = found[-1] + 1 if found else 1
        exact = layer + depth * (layer < 0)
        cut = max(first, min(round(layer * depth), depth - 1)) if isinstance(layer, float) else int(exact)
        if not first <= cut < depth or (isinstance(layer, float) and not 0 <= layer <= 1):
            raise MethodError(
                f"cannot cut before layers {', '.join(map(str, layers))} of {depth}; give ascending layers "
                f"1..{depth - 1} as whole numbers, or relative depths 0.0..1.0"
            )
        found.append(cut)
    return tuple(found)


def check_stages(method: Any) -> None:
    """Check the layers and the counts of SparseVLM's stages: as many as the authors have, by `keep` or `plain`.

    Raises:
        MethodError: there are more or fewer, or both fields are given.
    """
    if len(method.layers) != len(SPARSE):
        raise MethodError(f"{method.name}(layers={method.layers!r}): expected {len(SPARSE)} layers")
    if method.plain and (method.keep is not None or len(method.plain) != len(SPARSE) or min(method.plain) < 1):
        raise MethodError(f"{method}: expected {len(SPARSE)} numbers from 1 as plain, and no keep beside them")


def in_proportion(positions: int, keep: float | None) -> tuple[int, ...]:
    """Count what stays at each of SparseVLM's stages, in the authors' proportions, `keep` of it behind the last."""
    share = SPARSE[-1] if keep is None else keep
    return tuple(max(1, round(positions * min(1.0, share * stage / SPARSE[-1]))) for stage in SPARSE)


def best(scores: Tensor, seen: SeenInside) -> Tensor:
    """Take the best `seen.granted` positions of each image by scores (V,): (K,) int64, ascending; ties to the first."""
    taken = torch.zeros_like(seen.image, dtype=torch.bool)
    for image, count in enumerate(seen.granted):
        own = seen.image == image
        taken |= own & (select.ranks(scores[None], own[None])[0] < count)
    return taken.nonzero().flatten()


def raters(seen: SeenInside, name: str) -> Tensor:
    """Find the text tokens behind the first image that the picture is nearer to than to most (SparseVLM, 2410.04417).

    Returns:
        (Q,) bool: mean over the visual positions, as they entered, of the softmax over the text of their products,
        above its own mean; all of them where none is, as when there is but one.

    Raises:
        MethodError: no text stands behind the image.
    """
    entered: Any = seen.entered  # (V, D), (Q, D)
    if not len(entered[1]):
        raise MethodError(f"{name} lets the text behind the image rate it, and there is none: put the question last")
    near = (entered[0].float() @ entered[1].float().T).softmax(1).mean(0)  # (Q,)
    above: Tensor = near > near.mean()
    return above | ~above.any()
