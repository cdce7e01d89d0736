"""From patches to positions of the language model, where one stands for a block of them."""

from __future__ import annotations

from math import isqrt

from torch import Tensor


def blocks(values: Tensor, axis: int, block: int) -> Tensor:
    """Take the mean of blocks of `block` x `block` patches of a square tile that lie on an axis, row by row."""
    last = values.movedim(axis, -1)
    side = isqrt(last.shape[-1]) // block
    parts = last.reshape(*last.shape[:-1], side, block, side, block)
    return parts.mean((-3, -1)).flatten(-2).movedim(-1, axis)


def groups(values: Tensor, axis: int, patches: int) -> Tensor:
    """Take the mean of groups of so many patches that stand side by side on an axis."""
    shape = values.shape
    return values.reshape(*shape[:axis], -1, patches, *shape[axis + 1 :]).mean(axis + 1)
