"""Pick patches one by one: in all contests at once, without the host waiting, and to the outside as one operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from herovlm.ops.select import Scope
from herovlm.types import Seen


@dataclass(frozen=True, eq=False)
class Contests:
    """Who competes with whom: C contests of at most M patches; in a contest of fewer, what fills its row is not inside.

    Attributes:
        cells: (C, M) int64, flat positions in the (T, N) patches; inside by position, then what fills the row.
        inside: (C, M) bool, valid patches.
        count: Picks that settle every contest.
        shape: T, N.
    """

    cells: Tensor
    inside: Tensor
    count: int
    shape: torch.Size

    @classmethod
    def of(cls, seen: Seen, scope: Scope, patches: int) -> Contests:
        """Set up the contests for so many patches in all: "tile": one a tile, by its share; "image": one over all."""
        valid, room, total = seen.valid, seen.counts.room, seen.counts.patches
        patches = min(patches, total)
        if scope == "image":
            valid, room = valid.view(1, -1), (total,)
        order = valid.logical_not().byte().argsort(dim=1, stable=True)[:, : max(room)]  # (C, M) valid ones first
        cells = order + valid.shape[1] * torch.arange(len(valid), device=order.device)[:, None]
        count = max(-(-own * patches // total) for own in room)
        return cls(cells, valid.gather(1, order), count, seen.valid.shape)

    def take(self, values: Tensor) -> Tensor:
        """Bring values (T, N, ...) before the contests: (C, M, ...)."""
        return values.flatten(0, 1).index_select(0, self.cells.flatten()).unflatten(0, self.cells.shape)

    def scores(self, order: Tensor) -> Tensor:
        """Turn orders (C, M) into scores for `select.by_score`: (T, N) float32, highest the first pick, 0 not valid."""
        places = torch.arange(order.shape[1], device=order.device)
        worth = (self.inside.sum(1, keepdim=True) - places).clamp(min=0).float()  # (C, M)
        found = torch.zeros_like(worth).scatter_reduce(1, order, worth, "amax")  # who is named twice counts once
        flat = torch.zeros(self.shape, device=order.device).flatten()
        return flat.scatter(0, self.cells.flatten(), found.flatten()).view(self.shape)


def picked(gain: Tensor, count: int, beside: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Pick the largest gain in every contest, again and again; of equal ones the first.

    Args:
        gain: (C, M) of the first picks; -inf for who is not to be picked.
        count: Number of picks.
        beside: (i, best (C, 1) int64) -> the gains (C, M) once `best` is pick i; -inf for all picks.

    Returns:
        (C, M) int64, the picks in order, then the others as they would come next.
    """
    picks = []
    for i in range(min(count, gain.shape[1])):
        picks.append(best := gain.argmax(1, keepdim=True))
        gain = beside(i, best)
    others = gain.sort(dim=1, descending=True, stable=True).indices[:, : gain.shape[1] - len(picks)]
    return torch.cat([*picks, others], 1)


def row(matrix: Tensor, best: Tensor) -> Tensor:
    """Look up row `best` (C, 1) of each matrix (C, M, n): (C, n), by one operation."""
    if len(matrix) == 1:
        return matrix[0].index_select(0, best[0])
    return matrix.gather(1, best[:, :, None].expand(-1, -1, matrix.shape[2]))[:, 0]


def operation(schema: str, *, apart: bool = False) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Register a loop over picks as one operation of torch, `herovlm::name`, named as the function.

    A graph then holds the loop as a whole, and `torch.vmap` adds its images to the contests; unrolled, hundreds of
    picks would be traced and mapped one by one.  Inside, tensors are plain ones, so that a loop may do on a CPU what
    would let the host wait for a device.

    Args:
        schema: Of the operation.  The first tensor is (C, ..., M), every other (C, ...), a list has C entries, and what
            comes out is (C, M) int64.
        apart: On a CPU take one contest at a time.
    """

    def register(loop: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(*given: Any) -> Tensor:
            if not (apart and given[0].is_cpu):
                return loop(*given)
            own = [one.split(1) if isinstance(one, Tensor) else [one] * len(given[0]) for one in given]
            return torch.cat([loop(*contest) for contest in zip(*own, strict=True)])

        name = loop.__name__.strip("_")
        if hasattr(torch.ops.herovlm, name):  # of the same module, imported a second time
            return run
        whole = f"herovlm::{name}"
        torch.library.define(whole, schema)
        torch.library.impl(whole, "default", torch.no_grad()(run))
        made: Any = getattr(torch.ops.herovlm, name)

        def fake(first: Tensor, *_: Any) -> Tensor:
            return first.new_empty((first.shape[0], first.shape[-1]), dtype=torch.int64)

        def mapped(info: Any, dims: tuple[int | None, ...], *given: Any) -> tuple[Tensor, int]:
            images: int = info.batch_size
            flat = [_flat(one, dim, images) for one, dim in zip(given, dims, strict=True)]
            return made(*flat).unflatten(0, (images, -1)), 0

        torch.library.register_fake(whole, fake)
        if hasattr(torch.library, "register_vmap"):  # torch 2.5; before, vmap calls the operation image by image
            torch.library.register_vmap(whole, mapped)
        return made

    return register


def _flat(one: Any, dim: int | None, images: int) -> Any:
    """Put the contests of all images behind each other."""
    if isinstance(one, Tensor):
        many = one.expand(images, *one.shape) if dim is None else one.movedim(dim, 0)
        return many.flatten(0, 1)
    return list(one) * images if isinstance(one, (list, tuple)) else one
