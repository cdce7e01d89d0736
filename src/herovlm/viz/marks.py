"""Masks and scores as SVG paths and small data URIs; lengths are in patches."""

from __future__ import annotations

import base64
import io
from itertools import groupby

import torch
from PIL import Image
from torch import Tensor

RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # dark = low, bright = high
LONGEST = 1600  # pixels; a page needs no more of a picture
SHARP = 600_000  # bytes; below this a picture is stored without loss
CLEAR = 255  # the entry of a palette that shows what is below


def runs(mask: Tensor) -> list[tuple[int, int, int]]:
    """List the True cells of a mask (h, w) as (x, y, length) of each run in a row."""
    return [(x, y, n) for y, row in enumerate(mask.tolist()) for x, n in _runs(row)]


def cells(mask: Tensor) -> str:
    """Fill the True cells of a mask (h, w): one path, one rectangle a run of cells in a row."""
    return "".join(f"M{x} {y}h{n}v1h-{n}z" for x, y, n in runs(mask))


def outline(mask: Tensor) -> str:
    """Draw the border between the True and the False cells of a mask (h, w)."""
    return "".join(f"M{x} {y}{'v' if dy else 'h'}{dx or dy}" for x, y, dx, dy in borders(mask))


def borders(mask: Tensor) -> list[tuple[int, int, int, int]]:
    """List the border between the True and the False cells of a mask (h, w) as lines (x, y, dx, dy)."""
    framed = torch.nn.functional.pad(mask.to(torch.int8), (1, 1, 1, 1))
    flat = framed[1:, 1:-1] != framed[:-1, 1:-1]  # (h + 1, w): above row y
    steep = (framed[1:-1, 1:] != framed[1:-1, :-1]).T  # (w + 1, h): left of column x
    return [(x, y, n, 0) for x, y, n in runs(flat)] + [(x, y, 0, n) for y, x, n in runs(steep)]


def veil(mask: Tensor) -> str:
    """Darken the True cells of a mask (h, w), one pixel a cell, as a PNG data URI: black there, nothing elsewhere."""
    indices = torch.full(mask.shape, CLEAR, dtype=torch.uint8).masked_fill(mask, 0)
    return _indexed(indices, [(0, 0, 0)])


def heat(levels: Tensor) -> str:
    """Colour levels (h, w) in 0..1, one pixel a cell, as a PNG data URI; nan is nothing."""
    indices = (levels * (CLEAR - 1)).round().nan_to_num(CLEAR).to(torch.uint8)
    colours = ramp(torch.arange(CLEAR) / (CLEAR - 1)).round().int().tolist()
    return _indexed(indices, [(r, g, b) for r, g, b in colours])


def photo(image: Image.Image) -> str:
    """Store a picture as a data URI: without loss where that is small, else as a good JPEG."""
    image = image.convert("RGB")
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    sharp = _uri(image, "PNG", optimize=True)
    return sharp if len(sharp) <= SHARP else _uri(image, "JPEG", quality=88)


def ramp(level: Tensor) -> Tensor:
    """Look up the colours (n, 3), 0..255, of levels (n,) in 0..1."""
    stops = torch.tensor(RAMP, dtype=torch.float32)
    at = level * (len(stops) - 1)
    below = at.long().clamp(max=len(stops) - 2)
    return torch.lerp(stops[below], stops[below + 1], (at - below)[:, None])


def _runs(row: list[bool]) -> list[tuple[int, int]]:
    """(start, length) of each run of True."""
    found, at = [], 0
    for value, group in groupby(row):
        length = sum(1 for _ in group)
        if value:
            found.append((at, length))
        at += length
    return found


def _indexed(indices: Tensor, colours: list[tuple[int, int, int]]) -> str:
    image = Image.fromarray(indices.numpy()).convert("P")
    image.putpalette([part for colour in colours for part in colour] + [0] * 3 * (256 - len(colours)))
    return _uri(image, "PNG", transparency=CLEAR, optimize=True)


def _uri(image: Image.Image, kind: str, **how: object) -> str:
    store = io.BytesIO()
    image.save(store, kind, **how)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(store.getvalue()).decode()}"
