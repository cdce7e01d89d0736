"""Ink and paper: sprites and backgrounds of the scenes (Pillow only, the same pixels for the same seed)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import cache

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

COLOURS = {
    "red": (214, 40, 40),
    "orange": (245, 130, 20),
    "yellow": (240, 200, 0),
    "green": (30, 150, 60),
    "cyan": (30, 190, 215),
    "blue": (35, 70, 200),
    "purple": (140, 50, 170),
    "black": (40, 40, 45),
}
Point = tuple[float, float]


def _polygon(corners: int, turn: float = -90.0, inner: float | None = None) -> list[Point]:
    """Corners of a regular polygon (or, with `inner` radius, of a star) in the unit square."""
    count = corners * (2 if inner else 1)
    points = []
    for i in range(count):
        radius = 0.5 * (inner if inner and i % 2 else 1.0)
        angle = math.radians(turn + 360 * i / count)
        points.append((0.5 + radius * math.cos(angle), 0.5 + radius * math.sin(angle)))
    return points


def _heart() -> list[Point]:
    points = []
    for i in range(60):
        t = 2 * math.pi * i / 60
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((0.5 + x / 34, 0.46 - y / 34))
    return points


POLYGONS: dict[str, list[Point]] = {
    "square": [(0.08, 0.08), (0.92, 0.08), (0.92, 0.92), (0.08, 0.92)],
    "triangle": [(0.5, 0.04), (0.98, 0.94), (0.02, 0.94)],
    "diamond": [(0.5, 0.0), (0.88, 0.5), (0.5, 1.0), (0.12, 0.5)],
    "star": _polygon(5, inner=0.42),
    "heart": _heart(),
    "cross": [
        (x / 3, y / 3)
        for x, y in [(1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (1, 2), (0, 2), (0, 1), (1, 1)]
    ],
}
SHAPES = ("circle", "square", "triangle", "diamond", "star", "heart", "cross", "ring")


@cache
def icon(shape: str, colour: str, size: int) -> Image.Image:
    """A smooth RGBA sprite of `size` x `size` pixels with a thin dark rim."""
    big = size * 8
    mask = Image.new("L", (big, big), 0)
    pen = ImageDraw.Draw(mask)
    if shape in POLYGONS:
        pen.polygon([(x * (big - 1), y * (big - 1)) for x, y in POLYGONS[shape]], fill=255)
    else:
        pen.ellipse((big * 0.04, big * 0.04, big * 0.96, big * 0.96), fill=255)
    if shape == "ring":
        pen.ellipse((big * 0.3, big * 0.3, big * 0.7, big * 0.7), fill=0)
    core = mask.filter(ImageFilter.MinFilter(9)).filter(ImageFilter.MinFilter(5))
    rgb = COLOURS[colour]
    sprite = Image.new("RGB", (big, big), tuple(int(c * 0.6) for c in rgb))
    sprite.paste(rgb, mask=core)
    sprite.putalpha(mask)
    return sprite.resize((size, size), Image.Resampling.LANCZOS)


@cache
def glyph(char: str, size: int) -> Image.Image:
    """One character in dark ink on transparent paper, cut to its advance width."""
    font = ImageFont.load_default(size)
    width = max(1, round(font.getlength(char)))
    paper = Image.new("L", (width, size + 2), 0)
    ImageDraw.Draw(paper).text((0, -1), char, fill=255, font=font)
    ink = Image.new("RGB", paper.size, (15, 15, 20))
    ink.putalpha(paper.point([min(255, int(v * 1.5)) for v in range(256)]))
    return ink


@cache
def label(text: str, size: int = 11) -> Image.Image:
    """A white plate with `text` on it, RGBA."""
    glyphs = [glyph(char, size) for char in text]
    width = sum(g.width for g in glyphs) + 3
    plate = Image.new("RGBA", (width, size + 2), (255, 255, 255, 255))
    x = 2
    for g in glyphs:
        plate.paste(g, (x, 1), g)
        x += g.width
    return plate


def grain(size: tuple[int, int], rng: random.Random, cell: int, strength: int) -> Image.Image:
    """Soft grey noise around 128 with blobs of about `cell` pixels."""
    small = (max(2, size[0] // cell), max(2, size[1] // cell))
    noise = Image.frombytes("L", small, rng.randbytes(small[0] * small[1]))
    smooth = noise.resize(size, Image.Resampling.BICUBIC)
    return smooth.point([128 + (v - 128) * strength // 128 for v in range(256)])


def textured(
    size: tuple[int, int], colour: tuple[int, int, int], rng: random.Random, strength: int = 18
) -> Image.Image:
    """Plain paper of one colour with a fine and a coarse grain."""
    image = Image.new("RGB", size, colour)
    for cell, part in ((2, strength), (40, strength)):
        noise = Image.merge("RGB", [grain(size, rng, cell, part)] * 3)
        image = ImageChops.add(image, noise, offset=-128)
    return image


def cork(size: tuple[int, int], rng: random.Random) -> Image.Image:
    """A cork board in one of a few tints with a wooden frame."""
    tint = rng.choice([(214, 178, 132), (196, 206, 190), (190, 200, 214), (222, 200, 196)])
    image = textured(size, tint, rng, 26)
    ImageDraw.Draw(image).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=(120, 84, 50), width=3)
    return image


def paper(size: tuple[int, int], rng: random.Random) -> Image.Image:
    """A price list: pale ruled paper."""
    image = textured(size, rng.choice([(250, 246, 232), (240, 246, 250), (246, 240, 246)]), rng, 8)
    pen = ImageDraw.Draw(image)
    for y in range(47, size[1], 48):
        pen.line((4, y, size[0] - 5, y), fill=(205, 205, 210))
    return image


def streets(size: tuple[int, int], rng: random.Random) -> Image.Image:
    """A town map: parks, a river and streets."""
    width, height = size
    image = textured(size, (236, 230, 214), rng, 8)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(2, 4)):
        x, y = rng.randrange(width), rng.randrange(height)
        pen.ellipse((x - 50, y - 36, x + rng.randint(10, 50), y + rng.randint(10, 36)), fill=(206, 226, 188))
    bend = rng.randrange(height)
    river = [(x, bend + 26 * math.sin(x / rng.uniform(55, 60))) for x in range(-8, width + 16, 8)]
    pen.line(river, fill=(178, 208, 232), width=rng.randint(8, 16), joint="curve")
    for _ in range(rng.randint(4, 7)):
        ends = [(0, rng.randrange(height)), (width, rng.randrange(height))]
        if rng.random() < 0.5:
            ends = [(rng.randrange(width), 0), (rng.randrange(width), height)]
        pen.line(ends, fill=(200, 194, 182), width=8)
        pen.line(ends, fill=(255, 255, 255), width=6)
    return image


BACKGROUNDS: dict[str, Callable[[tuple[int, int], random.Random], Image.Image]] = {
    "board": cork,
    "prices": paper,
    "map": streets,
}


def card(image: Image.Image, box: tuple[int, int, int, int], rng: random.Random) -> None:
    """Pin a paper card with a soft shadow onto the board, in place."""
    pen = ImageDraw.Draw(image, "RGBA")
    left, top, right, bottom = box
    pen.rounded_rectangle((left + 2, top + 2, right + 2, bottom + 2), 4, fill=(0, 0, 0, 60))
    pen.rounded_rectangle(box, 4, fill=rng.choice([(255, 255, 255), (255, 252, 226), (236, 248, 255), (252, 240, 246)]))
