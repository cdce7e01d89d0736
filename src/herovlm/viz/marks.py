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


def cells(mask: Tensor) -> str:
    """Fill the True cells of a mask (h, w): one path, one rectangle a run of cells in a row."""
    return "".join(f"M{x} {y}h{n}v1h-{n}z" for y, row in enumerate(mask.tolist()) for x, n in _runs(row))


def outline(mask: Tensor) -> str:
    """Draw the border between the True and the False cells of a mask (h, w)."""
    framed = torch.nn.functional.pad(mask.to(torch.int8), (1, 1, 1, 1))
    flat = (framed[1:, 1:-1] != framed[:-1, 1:-1]).tolist()  # (h + 1, w): above row y
    steep = (framed[1:-1, 1:] != framed[1:-1, :-1]).T.tolist()  # (w + 1, h): left of column x
    across = "".join(f"M{x} {y}h{n}" for y, row in enumerate(flat) for x, n in _runs(row))
    return across + "".join(f"M{x} {y}v{n}" for x, column in enumerate(steep) for y, n in _runs(column))


def heat(values: Tensor, shown: Tensor) -> str:
    """Colour the `shown` cells of values (h, w) from low to high, one pixel a cell, as a PNG data URI.

    The ends of the scale are the 1st and 99th percentile of the shown finite values, so that one outlier hides nothing.
    """
    values = values.detach().float().cpu()
    shown = shown.cpu() & values.isfinite()
    pixels = torch.zeros(*values.shape, 4, dtype=torch.uint8)
    if shown.any():
        score = values[shown]
        low, high = torch.quantile(score, torch.tensor([0.01, 0.99])).tolist()
        level = ((score - low) / (high - low)).clamp(0, 1) if high > low else torch.full_like(score, 0.5)
        pixels[shown] = torch.cat([_ramp(level), torch.full((len(level), 1), 255)], 1).to(torch.uint8)
    return _uri(Image.fromarray(pixels.numpy()), "PNG")


def photo(image: Image.Image) -> str:
    """Store a picture as a data URI: without loss where that is small, else as a good JPEG."""
    image = image.convert("RGB")
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    sharp = _uri(image, "PNG", optimize=True)
    return sharp if len(sharp) <= SHARP else _uri(image, "JPEG", quality=88)


def _ramp(level: Tensor) -> Tensor:
    """Colours (n, 3) of levels (n,) in 0..1."""
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


def _uri(image: Image.Image, kind: str, **how: object) -> str:
    store = io.BytesIO()
    image.save(store, kind, **how)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(store.getvalue()).decode()}"
