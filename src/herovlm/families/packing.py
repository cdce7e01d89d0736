"""Where every visual position comes from: the model's own packer, run on indices instead of features.

A packed value >= 0 is the flat patch `tile * N + patch`; a value -1 - r is the newline that closes row r.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import ceil, sqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from herovlm.errors import ModelError, UsageError
from herovlm.geometry import Geometry, remembered
from herovlm.types import Grid

WINDOWS = 9  # about so many of a picture, where the user says nothing

Packer = Callable[[list[Tensor], Tensor, Tensor], Sequence[Tensor]]  # (maps, image sizes, newline) -> packed maps


def ask_packer(pack: Packer, tiles: Sequence[int], side: int, sizes: Tensor, canvases: Tensor) -> list[Geometry]:
    """Find the geometry of several images by packing float64 index maps with the model's own packer.

    Packing with the real image sizes tells what the model sends; packing with the sizes of the padded canvases tells
    the order of everything.  float64 because bfloat16 loses integers above 256.

    Args:
        pack: packs index maps [(T, N, 1)] given image sizes (B, 2) and a newline vector (1,).
        tiles: T of each image, thumbnail included.
        side: patches a side of one tile.
        sizes: (B, 2) height and width of each image.
        canvases: (B, 2) height and width of the padded canvas of each image.
    """
    maps = [torch.arange(count * side * side, dtype=torch.float64).view(count, -1, 1) for count in tiles]
    newline = torch.tensor([-1.0], dtype=torch.float64)
    sent = [packed.view(-1).long() for packed in pack(maps, sizes, newline)]
    full = [packed.view(-1).long() for packed in pack(maps, canvases, newline)]
    return [_geometry(count, side, some, every) for count, some, every in zip(tiles, sent, full, strict=True)]


def plain(side: int) -> Geometry:
    """Return the geometry of a model that sends one tile in raster order, without newlines."""
    return _geometry(1, side, torch.arange(side * side), torch.arange(side * side))


def windowed(config: Any, rows: int, columns: int, multiple: int = 1) -> Geometry:
    """Cut a picture of rows x columns positions into square windows, as two fields of the model's config say.

    `herovlm_window_side` is how many positions a window has on a side; where it is not set, `herovlm_windows` is about
    how many windows there are (9 where that is not set either).  One window, as large as the picture, is allowed.

    Args:
        config: of the model.
        rows: of the picture, in positions.
        columns: the same.
        multiple: what the side of a window is rounded up to, where there are several.

    Raises:
        UsageError: a field is no whole number from 1 on.
    """
    told = {name: getattr(config, name, None) for name in ("herovlm_window_side", "herovlm_windows")}
    for name, value in told.items():
        if value is not None and (type(value) is not int or value < 1):
            raise UsageError(f"model.config.{name}={value!r} must be a whole number from 1 on, or None")
    asked, count = told["herovlm_window_side"], told["herovlm_windows"] or WINDOWS
    least = asked or (sqrt(rows * columns / count) if count > 1 else max(rows, columns))
    side = min(ceil(least / multiple) * multiple, max(rows, columns))
    return remembered((native, rows, columns, side), partial(native, rows, columns, side))


def native(rows: int, columns: int, side: int) -> Geometry:
    """Return the geometry of a picture that is seen and sent as a whole, row by row, cut into windows of side x side.

    Windows at its right and bottom have the rest; the encoder gives the positions row by row too.
    """
    shape = (-(-rows // side), -(-columns // side))
    high, wide = (side * count for count in shape)
    whole = torch.full((high, wide), -1)
    whole[:rows, :columns] = torch.arange(rows * columns).view(rows, columns)
    cells = (shape[0] * shape[1], side * side)
    none = torch.empty(0, dtype=torch.long)
    row, sent = torch.full(cells, -1), torch.zeros(0, dtype=torch.bool)
    grid = Grid(shape, side, none, row, sent, overview=False, squeezed=True)
    grid = replace(grid, order=grid.canvas(torch.arange(cells[0] * cells[1]).view(cells)).flatten())
    source = grid.cut(whole)
    return Geometry(grid, source >= 0, role="window", source=source.clamp(min=0).flatten())


def alone(side: int, newline: bool) -> Geometry:
    """Return the geometry of one tile of any side, with a newline at its end where the family has newlines."""
    every = torch.arange(side * side)
    packed = torch.cat([every, every.new_tensor([-1] * newline)])
    return _geometry(1, side, packed, packed)


def crops(rows: int, columns: int, side: int) -> Geometry:
    """Return the geometry of square crops, row by row, and behind them the thumbnail, unless one tile is all there is.

    There are no newlines and no padding: the picture was stretched.
    """
    tiles, patches = rows * columns + (rows * columns > 1), side * side
    cells = torch.arange(tiles * patches).view(tiles, patches)  # the thumbnail first, as in every grid
    order = cells.roll(-1, 0).flatten() if tiles > 1 else cells.flatten()
    grid = Grid(
        tiles=(rows, columns) if tiles > 1 else (0, 0),
        side=side,
        order=order,
        row=torch.full((tiles, patches), -1),
        sent=torch.zeros(0, dtype=torch.bool),
        squeezed=True,
    )
    source = cells.roll(1, 0).flatten() if tiles > 1 else None
    return Geometry(grid, torch.ones(tiles, patches, dtype=torch.bool), source=source)


def windows(side: int, height: int, width: int) -> Geometry:
    """Return the geometry of an overview and a canvas of any size cut into windows, with a newline behind each row."""
    rows, columns = -(-height // side), -(-width // side)
    every = torch.arange((1 + rows * columns) * side * side)
    overview, local = every[: side * side], every[side * side :]
    canvas = local.view(rows, columns, side, side).transpose(1, 2).reshape(rows * side, columns * side)
    full, sent = (
        torch.cat([overview, pad(part, (0, 1), value=-1).flatten()]) for part in (canvas, canvas[:height, :width])
    )
    found = _geometry(1 + rows * columns, side, sent, full)
    return replace(found, grid=replace(found.grid, squeezed=True), role="window")


def _geometry(tiles: int, side: int, sent: Tensor, full: Tensor) -> Geometry:
    """Read one geometry out of the packed index maps of the real image (`sent`) and of its canvas (`full`)."""
    patches = side * side
    row = _rows(full, tiles, patches)
    order = _number_newlines(full, torch.arange(int((full < 0).sum())))
    rows = int((full < 0).sum())
    valid = torch.zeros(tiles * patches, dtype=torch.bool)
    valid[sent[sent >= 0]] = True
    sent_rows = _sent_rows(sent, row.flatten(), rows)
    local = rows // side  # rows of tiles; a single tile ends in one newline and has none
    shape = (local, (tiles - 1) // local) if tiles > 1 and local else (0, 0)
    grid = Grid(
        tiles=shape,
        side=side,
        order=order,
        row=row,
        sent=torch.zeros(rows, dtype=torch.bool).index_fill(0, sent_rows, True),
    )
    geometry = Geometry(grid, valid.view(tiles, patches))
    if not torch.equal(order[geometry.on_sent], _number_newlines(sent, sent_rows)):
        raise ModelError("this model packs an image in another order than its padded canvas; it is not supported")
    return geometry


def _number_newlines(packed: Tensor, rows: Tensor) -> Tensor:
    """Replace the newline marks (-1) of a packed map by -1 - r, rows given in order."""
    numbered = packed.clone()
    numbered[packed < 0] = -1 - rows
    return numbered


def _rows(full: Tensor, tiles: int, patches: int) -> Tensor:
    """Newline row of every patch, (T, N): the newlines before it count, thumbnails (of several tiles) have none."""
    row = torch.full((tiles * patches,), -1, dtype=torch.long)
    if bool((full < 0).any()):
        before = (full < 0).cumsum(0)
        row[full[full >= 0]] = before[full >= 0]
    row = row.view(tiles, patches)
    if tiles > 1:
        row[0] = -1
    return row


def _sent_rows(sent: Tensor, row: Tensor, rows: int) -> Tensor:
    """Rows whose newline is sent, in order: a newline closes the row of the patch before it."""
    marks = (sent < 0).nonzero().flatten()
    if marks.numel() == rows:
        return torch.arange(rows)  # nothing was cut off above or below, though a very tall image may lose every column
    return row[sent[marks - 1]]
