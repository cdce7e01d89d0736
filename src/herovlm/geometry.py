"""Where every visual position of an image comes from: known to the host before anything has run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from threading import Lock
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from herovlm.types import Counts, Grid

MOST = 256  # geometries that are remembered

Role = Literal["overview", "crop", "window"]


class Tile(NamedTuple):
    """A tile as the picture has it, without the cells that only fill it up."""

    rows: int  # of valid patches
    cols: int
    box: tuple[float, float, float, float]  # top, left, bottom, right, as fractions of the picture
    role: (
        Role  # the whole picture; a part that was seen on its own; or one that was cut out of what was seen as a whole
    )


class Here(NamedTuple):
    """A geometry beside the features, as methods read it."""

    grid: Grid
    valid: Tensor  # (T, N) bool
    counts: Counts
    source: Tensor | None = None  # as in `Geometry`


class Mixed(NamedTuple):
    """How an encoder's output becomes positions, where that is more than an index."""

    rows: int  # that the encoder gives of the image
    make: Callable[[Tensor], Tensor]  # of what belongs to those rows, (rows, ...): of each position, in order


@dataclass(frozen=True, eq=False)
class Geometry:
    """The tiles of one image, the order in which the model sends their patches and newlines, and how many they are."""

    grid: Grid
    valid: Tensor  # (T, N) bool: patches that the untouched model sends
    role: Literal["crop", "window"] = "crop"  # of the local tiles
    source: Tensor | None = None  # (T * N,) int64: which row of what the encoder gives of this image stands in a cell,
    # any where the cell is not valid; None = the cells are those rows, in order
    mixed: Mixed | None = None  # makes the rows that `source` names, where a position is a mixture of several patches
    _here: dict[torch.device, Here] = field(default_factory=dict, repr=False)

    @cached_property
    def counts(self) -> Counts:
        """How many positions there are."""
        return Counts.read(self.grid, self.valid)

    @property
    def positions(self) -> int:
        """Visual positions the untouched model sends, newlines included."""
        return self.counts.positions

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """The T tiles, each with its place in the picture: counted in patches, and so off by less than one of them."""
        grid, (rows, columns) = self.grid, (self.counts.rows, self.counts.columns)
        boxes = [(down, across) for down in _parts(rows, grid, 0) for across in _parts(columns, grid, 1)]
        frames, found = self.counts.frames(grid), []
        for t, (high, wide) in enumerate(frames):
            (top, bottom), (left, right) = ((0.0, 1.0), (0.0, 1.0)) if t < grid.lead else boxes[t - grid.lead]
            role: Role = "overview" if t < grid.lead else self.role
            found.append(Tile(len(high), len(wide), (top, left, bottom, right), role))
        return tuple(found)

    @cached_property
    def encoded(self) -> int:
        """How many rows the encoder gives of this image."""
        if self.mixed is not None:
            return self.mixed.rows
        return self.valid.numel() if self.source is None else int(self.source.max()) + 1

    @cached_property
    def on_sent(self) -> Tensor:
        """Which slots of `grid.order` the untouched model sends: (slots,) bool."""
        return self.grid.on_slots(self.valid, self.grid.sent)

    @cached_property
    def rank(self) -> Tensor:
        """Which of the positions that are sent a slot is, or comes behind if it is not: (slots,) int64."""
        return (self.on_sent.cumsum(0) - 1).clamp(min=0)

    def on(self, device: torch.device) -> Here:
        """Bring the geometry beside the features, once a device."""
        here = self._here.get(device)
        if here is None:
            grid, valid = self.grid, self.valid.to(device)
            moved = replace(grid, order=grid.order.to(device), row=grid.row.to(device), sent=grid.sent.to(device))
            here = self._here[device] = Here(
                moved,
                valid,
                replace(self.counts, valid=valid),
                None if self.source is None else self.source.to(device),
            )
        return here


def _parts(lines: Sequence[int], grid: Grid, axis: int) -> list[tuple[float, float]]:
    """Divide the valid lines of the canvas among its rows (axis 0) or columns of tiles: start and end of each, in 0..1.

    Lines of the canvas that are not valid are no part of the picture, wherever they lie.
    """
    ends = [sum(line < grid.side * n for line in lines) for n in range(grid.tiles[axis] + 1)]
    return [(start / max(ends[-1], 1), end / max(ends[-1], 1)) for start, end in pairwise(ends)]


def remembered(key: Any, make: Callable[[], Geometry]) -> Geometry:
    """Return the geometry that belongs to a key, made at most once while few enough are in use."""
    with _lock:
        found = _known.get(key)
    if found is None:
        with torch.device("cpu"):  # also where the caller's default is another device
            found = make()
        with _lock:
            if len(_known) >= MOST:
                _known.clear()
            found = _known.setdefault(key, found)
    return found


_known: dict[Any, Geometry] = {}
_lock = Lock()
