"""Where a model looks in a picture of several scales, and which patches of the next scale that asks for.

SECOND (arXiv 2506.08391, section 3): S stages from coarse to fine, each a grid (rows, columns) of patches of the whole
picture; masks and maps lie on the finest one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Sides = tuple[int, int]  # rows, columns
LEAST = 0.1  # of the finest grid that is always kept
FINE = 1e-9  # is added to shares of a row before their entropy, as the authors do


class Asked(NamedTuple):
    """What a map asks for."""

    mask: Tensor  # (rows, columns) bool, of the next stage on the finest grid
    entropy: float  # normalised to 0..1
    share: float  # of the finest grid, p


def mixing(attention: Tensor) -> Tensor:
    """Return how patches of a tower mix in one block: mean of the heads without the CLS token, rows that sum to 1.

    Args:
        attention: (T, H, 1 + N, 1 + N) after the softmax, CLS first.

    Returns:
        (T, N, N) float32.
    """
    patches = attention.float().mean(1)[:, 1:, 1:]
    return patches / patches.sum(-1, keepdim=True)


def weights(rows: Tensor, first: Tensor) -> Tensor:
    """Return where the last token looks: rows of all layers without the first token of the prompt, each summing to 1.

    Args:
        rows: (layers, B, n) its attention, mean of the heads.
        first: (B,) int64 column of the first token.

    Returns:
        (B, n) float32, mean of the layers.
    """
    rest = rows.float().scatter(2, first.expand(len(rows), -1)[..., None], 0)
    return (rest / rest.sum(-1, keepdim=True)).mean(0)


def resized(values: Tensor, sides: Sides) -> Tensor:
    """Take the nearest cell of a grid (rows, columns) for each of one with other sides."""
    return torch.nn.functional.interpolate(values[None, None].float(), sides, mode="nearest")[0, 0].to(values.dtype)


def kept(mask: Tensor, sides: Sides) -> Tensor:
    """Return which patches of a stage a mask of the finest grid keeps: (n,) int64, row by row."""
    return resized(mask, sides).flatten().nonzero().flatten()


def heat(
    weight: Sequence[Tensor], mixed: Sequence[Tensor], masks: Sequence[Tensor], grids: Sequence[Sides], first: int
) -> Tensor:
    """Add up where the model looks in the stages that it has read.

    A stage's map is what its kept patches have drawn from all of its patches, by where the last token looks; its
    largest cell is 1, and 4 to the power of the stage + 2 weighs it.

    Args:
        weight: of each stage so far the attention to its kept patches, (n,).
        mixed: of each the mean of `mixing` over the blocks that its features stand behind, (N, N).
        masks: of each, on the finest grid, (rows, columns) bool.
        grids: sides of each.
        first: number of the first stage; 0 is the thumbnail in its own size.

    Returns:
        (rows, columns) float32, on the finest grid.
    """
    total = torch.zeros(masks[0].shape, device=masks[0].device)
    for stage, (share, mix, mask, sides) in enumerate(zip(weight, mixed, masks, grids, strict=True), first):
        cells = (share / share.sum()) @ mix[kept(mask, sides)]
        own = resized((cells / cells.max()).view(sides), (mask.shape[0], mask.shape[1]))
        total += own * mask * 4.0 ** (stage + 2)
    return total


def asked(heat: Tensor, steepness: float) -> Asked:
    """Choose the cells that the next stage reads: the fewer, the more the map is gathered in a few places.

    Every row of the map is a distribution; H is the mean of their entropies over log(columns).
    p = (exp(lambda H) - 1) / (exp(lambda) - 1), within [0.1, 1], and H itself where lambda is 0.  All cells that reach
    the value of the (p * cells)-th largest are kept, so that whole patches of the coarser stage enter.
    """
    rows = heat.double()
    shares = rows / rows.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny) + FINE
    flat = max(math.log(heat.shape[1]), FINE)  # of a grid one column wide nothing can be said
    entropy = float(-(shares * shares.log()).sum(1).mean()) / flat
    share = proportion(entropy, steepness)
    rank = max(1, int(heat.numel() * share))
    least = heat.flatten().sort(descending=True).values[rank - 1]
    return Asked(heat >= least, entropy, share)


def proportion(entropy: float, steepness: float) -> float:
    """Return p of a normalised entropy H and lambda."""
    share = math.expm1(steepness * entropy) / math.expm1(steepness) if steepness else entropy
    return min(max(share, LEAST), 1.0)
