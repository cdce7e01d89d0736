"""From what the encoder gave of all images of a call to the cells (T, N) of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from herovlm.errors import InputsError
from herovlm.geometry import Geometry, Here
from herovlm.seams import offload
from herovlm.types import Seen

MAPS = ("attention", "keys", "queries", "received")  # fields of `Seen` that have one tensor a block
AXIS = {
    "attention": 2,
    "received": 1,
    "keys": 1,
    "probe": 2,
    "hidden": 1,
    "features": 1,
    "beside": 1,
}  # where positions stand


@dataclass(frozen=True, eq=False)
class Look:
    """What one run of the vision tower gave: of all images at once, and of each, before any question is asked."""

    seen: tuple[Seen, ...]  # one an image
    starts: tuple[int, ...]  # which of all tiles is the first of each image
    cells: tuple[int, ...]  # which row of `features` is the first of each image
    features: Tensor  # (sum of T * N, D) after the projector, zero where not valid
    states: Tensor | None  # (sum of T, 1 + N, C) behind the last block, not normalised, CLS first; or CLS alone
    hidden: Tensor | None  # (sum of T, N, C) before the projector, if wanted
    beside: tuple[Tensor, ...] = ()  # (sum of T * N, D) each: what else the language model reads of every position


@dataclass(frozen=True, eq=False)
class Given:
    """What was recorded of all images, t sequences of n positions; a position is a row of the encoder's output."""

    features: Tensor  # (t, n, D)
    states: Tensor | None  # as in `Look`
    single: Mapping[str, Tensor | None]  # fields of `Seen`: "cls" (t, C), "hidden" (t, n, C), "through" (t, n), "probe"
    maps: Mapping[str, Mapping[int, Tensor]]  # fields of `Seen` that have one tensor a block
    beside: Sequence[Tensor] = ()  # (t, n, D) each


def laid_out(images: Sequence[Geometry], given: Given, common: Mapping[str, Any]) -> Look:
    """Split what was recorded of all images into what belongs to each, in its cells.

    Args:
        images: the geometry of each image.
        given: what was recorded.
        common: fields of `Seen` that all images share.

    Raises:
        InputsError: there are more or fewer positions than the images have.
    """
    there, wanted = given.features.shape[:2].numel(), sum(image.encoded for image in images)
    if there != wanted:
        raise InputsError(
            f"the vision tower gave {there:,} positions, but the prompts have placeholders for {wanted:,}; make "
            "input_ids and pixel_values with the processor of this model (it leaves out tiles that are all zero)"
        )
    here = [image.on(given.features.device) for image in images]
    tiles = [len(one.valid) for one in here]
    cells = [one.valid.numel() for one in here]
    if all(image.source is None for image in images):
        return _in_order(here, tiles, cells, given, common)
    parts = {name: _cells(name, x, images, here) for name, x in given.single.items() if x is not None}
    parts["features"] = _cells("features", given.features, images, here)
    of = {name: {b: _cells(name, x, images, here) for b, x in blocks.items()} for name, blocks in given.maps.items()}
    beside = [torch.cat([x.flatten(0, 1) for x in _cells("beside", one, images, here)]) for one in given.beside]
    features = torch.cat([x.flatten(0, 1) for x in parts["features"]])
    own = zip(torch.split(features, cells), here, strict=True)
    parts["features"] = [rows.view(*one.valid.shape, -1) for rows, one in own]  # side by side, and in memory once
    starts, firsts = _before(tiles), _before(cells)
    return Look(_seen(here, parts, of, common), starts, firsts, features, given.states, None, tuple(beside))


def _in_order(
    here: Sequence[Here], tiles: list[int], cells: list[int], given: Given, common: Mapping[str, Any]
) -> Look:
    """Split what lies in its cells already: sequences are tiles."""
    valid = here[0].valid if len(here) == 1 else torch.cat([one.valid for one in here])
    features = given.features.masked_fill(~valid[..., None], 0)
    parts = {
        name: torch.split(offload.beside(x, features.device), tiles)
        for name, x in given.single.items()
        if x is not None
    }
    parts["features"] = torch.split(features, tiles)
    of = {name: {b: torch.split(x, tiles) for b, x in blocks.items()} for name, blocks in given.maps.items()}
    beside = tuple(x.flatten(0, 1) for x in given.beside)
    seen, starts, firsts = _seen(here, parts, of, common), _before(tiles), _before(cells)
    return Look(seen, starts, firsts, features.flatten(0, 1), given.states, given.single.get("hidden"), beside)


def _cells(name: str, values: Tensor, images: Sequence[Geometry], here: Sequence[Here]) -> list[Tensor]:
    """Lay one recorded tensor out in the cells of each image, zero where they are not valid."""
    values = offload.beside(values, here[0].valid.device)
    if name not in AXIS:
        return _tiles(values, images, here)
    axis = AXIS[name]
    flat = values.movedim(axis, 1).flatten(0, 1)  # (rows, ...)
    found = []
    parts = torch.split(flat, [image.encoded for image in images])
    for image, one, rows in zip(images, here, parts, strict=True):
        rows = rows if image.mixed is None else image.mixed.make(rows)
        laid = rows if one.source is None else rows[one.source]
        laid = laid.view(*one.valid.shape, *rows.shape[1:])  # (T, N, ...)
        blank = ~one.valid.view(*one.valid.shape, *[1] * (laid.ndim - 2))
        found.append(laid.masked_fill(blank, 0).movedim(1, axis))
    return found


def _tiles(values: Tensor, images: Sequence[Geometry], here: Sequence[Here]) -> list[Tensor]:
    """Bring what there is one of a sequence (t, ...) into the order of the tiles: each is a sequence of its own."""
    own = torch.split(values, [len(one.valid) for one in here])
    return [
        x if one.source is None else x[one.source[:: one.valid.shape[1]] // one.valid.shape[1]]
        for x, one in zip(own, here, strict=True)
    ]


def _seen(
    here: Sequence[Here],
    parts: Mapping[str, Sequence[Tensor]],
    maps: Mapping[str, Mapping[int, Sequence[Tensor]]],
    common: Mapping[str, Any],
) -> tuple[Seen, ...]:
    """Put what belongs to each image together."""
    seen = []
    for i, one in enumerate(here):
        own: dict[str, Any] = {name: part[i] for name, part in parts.items()}
        own |= {name: {b: x[i] for b, x in blocks.items()} for name, blocks in maps.items()}
        seen.append(Seen(one.grid, one.valid, counted=one.counts, **common, **own))
    return tuple(seen)


def _before(counts: Sequence[int]) -> tuple[int, ...]:
    """Add up what stands before each."""
    return tuple(sum(counts[:i]) for i in range(len(counts)))
