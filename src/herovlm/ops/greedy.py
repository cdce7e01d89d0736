"""Pick patches one by one: in all contests at once, without the host waiting, and to the outside as one operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from herovlm.ops.replay import replayed
from herovlm.ops.select import Scope
from herovlm.types import Seen


@dataclass(frozen=True, eq=False)
class Contests:
    """Who competes with whom: C contests of at most M patches, and how many picks settle them; all known to the host.

    Attributes:
        shape: T, N.
        scope: "tile": a contest in each tile, C = T; "image": one over all tiles, C = 1.
        count: Picks that settle every contest.
        cells: (C, M) int64, the place of each patch in its tile, or in all of them; None where all N are valid.
        inside: (C, M) bool, valid patches, the first of each row; None where all are.
    """

    shape: torch.Size
    scope: Scope
    count: int
    cells: Tensor | None = None
    inside: Tensor | None = None

    @classmethod
    def of(cls, seen: Seen, scope: Scope, patches: int, *, padding: bool = False) -> Contests:
        """Set up the contests for so many patches in all, divided among the tiles by what is valid in them.

        With `padding` its cells come before the contests too, in their places, though they are not inside.
        """
        valid, total = _rows(seen.valid, scope), seen.counts.patches
        room = (total,) if scope == "image" else seen.counts.room
        count = max(-(-own * min(patches, total) // total) for own in room)
        found = cls(seen.valid.shape, scope, count)
        if total == valid.numel():
            return found
        if padding:
            return _padded(found, seen)
        cells = valid.logical_not().byte().argsort(dim=1, stable=True)[:, : max(room)]
        return replace(found, cells=cells, inside=None if min(room) == max(room) else valid.gather(1, cells))

    def take(self, values: Tensor) -> Tensor:
        """Bring values (T, N, ...) before the contests: (C, M, ...)."""
        rows = _rows(values, self.scope)
        if self.cells is None:
            return rows
        at = self.cells.view(*self.cells.shape, *[1] * (rows.dim() - 2))
        return rows.gather(1, at.expand(-1, -1, *rows.shape[2:]))

    def scores(self, order: Tensor) -> Tensor:
        """Turn orders (C, M) into scores for `select.by_score`: (T, N) float32, highest the first pick, 0 not valid."""
        contests, most = order.shape
        room = most if self.inside is None else self.inside.sum(1, keepdim=True)
        worth = (room - torch.arange(most, device=order.device)).clamp(min=0).float().expand(contests, -1)
        found = torch.zeros_like(worth).scatter_reduce(1, order, worth, "amax")  # who is named twice counts once
        if self.cells is None:
            return found.view(self.shape)
        flat = _rows(found.new_zeros(self.shape), self.scope)
        return flat.scatter(1, self.cells, found).view(self.shape)


def _padded(found: Contests, seen: Seen) -> Contests:
    """Bring padding before the contests, but in one over all tiles that of tiles which are nothing else."""
    valid, side = _rows(seen.valid, found.scope), seen.valid.shape[1]
    some = [t for t, own in enumerate(seen.counts.room) if own]
    if found.scope == "tile" or len(some) == len(seen.valid):
        return replace(found, inside=valid)
    cells = torch.cat([torch.arange(t * side, (t + 1) * side, device=valid.device) for t in some])[None]
    return replace(found, cells=cells, inside=valid.gather(1, cells))


def _rows(values: Tensor, scope: Scope) -> Tensor:
    """Lay (T, N, ...) out as contests: (T, N, ...) or (1, T * N, ...)."""
    return values if scope == "tile" else values.flatten(0, 1)[None]


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
                return replayed(loop, given)
            own = [one.chunk(len(one)) if isinstance(one, Tensor) else [one] * len(given[0]) for one in given]
            return torch.cat([loop(*contest) for contest in zip(*own, strict=True)])

        @wraps(loop)
        def called(*given: Any) -> Tensor:
            return made(*given)

        name = loop.__name__.strip("_")
        known = hasattr(torch.ops.herovlm, name)  # of the same module, imported a second time
        if not known:
            torch.library.define(f"herovlm::{name}", schema)
        made: Callable[..., Tensor] = getattr(torch.ops.herovlm, name)
        if known:
            return called

        def fake(first: Tensor, *_: Any) -> Tensor:
            return first.new_empty((first.shape[0], first.shape[-1]), dtype=torch.int64)

        def mapped(info: Any, dims: tuple[int | None, ...], *given: Any) -> tuple[Tensor, int]:
            images: int = info.batch_size
            flat = [_flat(one, dim, images) for one, dim in zip(given, dims, strict=True)]
            return made(*flat).view(images, -1, given[0].shape[-1]), 0

        torch.library.impl(f"herovlm::{name}", "default", torch.no_grad()(run))
        torch.library.register_fake(f"herovlm::{name}", fake)
        if hasattr(torch.library, "register_vmap"):  # torch 2.5; before, vmap calls the operation image by image
            torch.library.register_vmap(f"herovlm::{name}", mapped)
        return called

    return register


def _flat(one: Any, dim: int | None, images: int) -> Any:
    """Put the contests of all images behind each other."""
    if isinstance(one, Tensor):
        many = one.expand(images, *one.shape) if dim is None else one.movedim(dim, 0)
        return many.flatten(0, 1)
    return list(one) * images if isinstance(one, (list, tuple)) else one
