"""The same drawing as on a page, as plain pictures: the tiles, and the thumbnail."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from herovlm.types import Kept, Seen
from herovlm.viz import geometry
from herovlm.viz.geometry import Box, Fit

PADDING, VEIL, EDGE, TILE = (217, 214, 205), (14, 14, 20), (255, 176, 0), (255, 255, 255)
DIM = 0.74  # how dark a dropped patch is


def draw(
    picture: Image.Image, seen: Seen, kept: Kept, *, height: int = 768, fit: Fit = "squeeze"
) -> tuple[Image.Image, ...]:
    """Draw the local tiles, `height` pixels high or a little less, and the thumbnail behind them; or what there is.

    Kept patches are lit, dropped ones dark, padding is plain.

    Raises:
        InputsError: the masks do not fit the grid.
    """
    grid, size = seen.grid, picture.size
    rows, cols = grid.tiles
    cell = max(1, height // (grid.side * max(rows, 1)))  # pixels a patch
    parts = (kept.mask.cpu(), seen.valid.cpu())
    panels = []
    if rows * cols:
        masks = [geometry.canvas(part, grid) for part in parts]
        panels.append(_panel(picture, geometry.on_canvas(size, grid, seen.counts), masks, cell))
        _part(panels[0], grid.tiles)
    if grid.overview:
        masks = [geometry.thumbnail(part, grid) for part in parts]
        panels.append(_panel(picture, geometry.on_thumbnail(size, grid, fit, seen.counts), masks, cell))
    return tuple(panels)


def counted(panel: Image.Image, tiles: tuple[int, int], counts: Sequence[int]) -> Image.Image:
    """Write above each tile of a panel how many of its patches were kept, on a strip that covers nothing."""
    (rows, cols), high, wide = tiles, panel.height // tiles[0], panel.width // tiles[1]
    strip = max(14, min(high // 6, wide // 3))
    whole = Image.new("RGB", (panel.width, panel.height + rows * strip), VEIL)
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(strip * 0.72)
    for row in range(rows):
        top = row * (high + strip)
        whole.paste(panel.crop((0, row * high, panel.width, (row + 1) * high)), (0, top + strip))
        for col, count in enumerate(counts[row * cols : (row + 1) * cols]):
            pen.text((col * wide + wide // 2, top + strip // 2), str(count), fill=EDGE, font=font, anchor="mm")
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


def _part(panel: Image.Image, tiles: tuple[int, int]) -> None:
    """Part the tiles by lines."""
    pen, (rows, cols) = ImageDraw.Draw(panel), tiles
    high, wide = panel.height // rows, panel.width // cols
    for tile in range(rows * cols):
        x, y = tile % cols * wide, tile // cols * high
        pen.rectangle((x, y, x + wide - 1, y + high - 1), outline=TILE, width=max(1, high // 160))


def _at(place: Box, cell: int) -> tuple[int, int]:
    return round(place.x * cell), round(place.y * cell)
