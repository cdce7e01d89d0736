"""The same drawing as on a page, as one plain picture: for a README, a notebook or a report."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from herovlm.types import Kept, Seen
from herovlm.viz import geometry
from herovlm.viz.geometry import Box, Fit

PADDING, VEIL, EDGE, TILE = (217, 214, 205), (14, 14, 20), (255, 176, 0), (255, 255, 255)
DIM = 0.74  # how dark a dropped patch is


def draw(picture: Image.Image, seen: Seen, kept: Kept, *, height: int = 768, fit: Fit = "squeeze") -> Image.Image:
    """Draw the local tiles, `height` pixels high or a little less, with the thumbnail beside them.

    Kept patches are lit, dropped ones dark, padding is plain; the number in a tile is its kept patches.

    Raises:
        InputsError: the masks do not fit the grid.
    """
    grid, size = seen.grid, picture.size
    rows, cols = grid.tiles
    cell = max(1, height // (grid.side * max(rows, 1)))  # pixels a patch
    parts = (kept.mask.cpu(), seen.valid.cpu())
    masks = [geometry.thumbnail(part, grid) for part in parts]
    thumbnail = _panel(picture, geometry.on_thumbnail(size, grid, fit), masks, cell)
    _tiles(thumbnail, (1, 1), kept.granted[:1].tolist())
    if not rows * cols:
        return thumbnail
    masks = [geometry.canvas(part, grid) for part in parts]
    local = _panel(picture, geometry.on_canvas(size, grid), masks, cell)
    _tiles(local, grid.tiles, kept.granted[1:].tolist())
    whole = Image.new("RGB", (local.width + 2 * cell + thumbnail.width, local.height), "white")
    whole.paste(local, (0, 0))
    whole.paste(thumbnail, (local.width + 2 * cell, 0))
    return whole


def _panel(picture: Image.Image, place: Box, masks: list[Tensor], cell: int) -> Image.Image:
    mask, valid = masks
    size = (mask.shape[1] * cell, mask.shape[0] * cell)
    base = Image.new("RGB", size, PADDING)
    wide, high = max(1, round(place.width * cell)), max(1, round(place.height * cell))
    base.paste(picture.convert("RGB").resize((wide, high), Image.Resampling.LANCZOS), _at(place, cell))
    dark = Image.blend(base, Image.new("RGB", size, VEIL), DIM)
    base.paste(dark, (0, 0), _stencil(valid & ~mask, size))
    base.paste(PADDING, (0, 0), _stencil(~valid, size))
    return base


def _stencil(cells: Tensor, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(cells.to(torch.uint8).mul(255).numpy()).resize(size, Image.Resampling.NEAREST)


def _tiles(panel: Image.Image, tiles: tuple[int, int], counts: list[int]) -> None:
    """Part the tiles and write in each how many of its patches were kept."""
    pen, (rows, cols) = ImageDraw.Draw(panel), tiles
    high, wide = panel.height // rows, panel.width // cols
    font = ImageFont.load_default(max(10, high // 12))
    for tile, count in enumerate(counts):
        x, y = tile % cols * wide, tile // cols * high
        pen.rectangle((x, y, x + wide - 1, y + high - 1), outline=TILE, width=max(1, high // 160))
        at = (x + high // 24, y + high // 24)
        left, top, right, bottom = pen.textbbox(at, str(count), font=font)
        rim = high // 60
        pen.rectangle((left - rim, top - rim, right + rim, bottom + rim), fill=VEIL)
        pen.text(at, str(count), fill=EDGE, font=font)


def _at(place: Box, cell: int) -> tuple[int, int]:
    return round(place.x * cell), round(place.y * cell)
