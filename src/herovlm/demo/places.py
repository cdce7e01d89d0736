"""Drawn surroundings that tell a feeling (Pillow only)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from PIL import ImageDraw

Pen = ImageDraw.ImageDraw
Place = Callable[[Pen, random.Random, int, int, int], None]  # pen, rng, width, height, y of the ground
BRIGHT = ((230, 60, 60), (250, 180, 30), (60, 160, 230), (90, 190, 90), (190, 90, 200))


def _fill(
    pen: Pen, width: int, height: int, ground: int, sky: tuple[int, int, int], floor: tuple[int, int, int]
) -> None:
    pen.rectangle((0, 0, width, ground), fill=sky)
    pen.rectangle((0, ground, width, height), fill=floor)


def _disc(pen: Pen, x: float, y: float, r: float, fill: tuple[int, int, int] | str) -> None:
    pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def room(pen: Pen, rng: random.Random, width: int, height: int, ground: int) -> None:
    """A wall, a floor and a picture: no feeling."""
    grey = rng.randint(205, 235)
    _fill(pen, width, height, ground, (grey, grey, grey - 10), (186, 160, 130))
    x, y = rng.randrange(width), ground * rng.uniform(0.15, 0.3)
    pen.rectangle((x - 40, y - 26, x + 40, y + 26), fill=(240, 240, 236), outline=(120, 90, 60), width=5)


def garden(pen: Pen, rng: random.Random, width: int, height: int, ground: int) -> None:
    """Sun and flowers."""
    _fill(pen, width, height, ground, (170, 220, 250), (150, 205, 110))
    x, y, r = rng.choice((0.15, 0.85)) * width, 0.16 * height, 0.08 * height
    for i in range(12):
        a = math.tau * i / 12
        pen.line((x, y, x + 1.7 * r * math.cos(a), y + 1.7 * r * math.sin(a)), fill=(250, 200, 40), width=6)
    _disc(pen, x, y, r, (255, 215, 60))
    for _ in range(16):
        x, y = rng.randrange(width), rng.uniform(ground + 8, height - 8)
        _disc(pen, x, y, 9, rng.choice(BRIGHT))
        _disc(pen, x, y, 3, (255, 240, 120))


def party(pen: Pen, rng: random.Random, width: int, height: int, ground: int) -> None:
    """Bunting, balloons and confetti."""
    _fill(pen, width, height, ground, (250, 232, 214), (214, 180, 150))
    step = width / 10
    pen.line((0, 24, width, 24), fill=(90, 90, 90), width=3)
    for i in range(10):
        pen.polygon([(i * step, 24), ((i + 1) * step, 24), ((i + 0.5) * step, 66)], fill=BRIGHT[i % len(BRIGHT)])
    for _ in range(6):
        x, y = rng.randrange(width), rng.uniform(0.25, 0.55) * height
        pen.line((x, y, x, y + 90), fill=(120, 120, 120), width=2)
        pen.ellipse((x - 26, y - 34, x + 26, y + 34), fill=rng.choice(BRIGHT))
    for _ in range(70):
        x, y = rng.randrange(width), rng.randrange(height)
        pen.rectangle((x, y, x + 8, y + 8), fill=rng.choice(BRIGHT))


def gift(pen: Pen, rng: random.Random, width: int, height: int, ground: int) -> None:
    """A box that springs open, and stars out of it."""
    _fill(pen, width, height, ground, (226, 220, 244), (180, 168, 204))
    x, size = rng.choice((0.16, 0.84)) * width, 0.1 * height
    y = ground + 0.1 * height
    pen.rectangle((x - size, y - size, x + size, y + size), fill=(220, 60, 110))
    pen.rectangle((x - 0.2 * size, y - size, x + 0.2 * size, y + size), fill=(255, 220, 80))
    pen.polygon(
        [(x - size, y - size), (x - 1.6 * size, y - 1.9 * size), (x - 0.2 * size, y - 1.6 * size)], fill=(180, 40, 90)
    )
    for _ in range(14):
        star = x + rng.uniform(-2.2, 2.2) * size, y - rng.uniform(1.4, 5.2) * size
        for i in range(4):
            a = math.pi * i / 4
            dx, dy = 13 * math.cos(a), 13 * math.sin(a)
            pen.line((star[0] - dx, star[1] - dy, star[0] + dx, star[1] + dy), fill=(250, 190, 20), width=4)


def lake(pen: Pen, rng: random.Random, width: int, height: int, ground: int) -> None:
    """A lake below a low sun."""
    _fill(pen, width, height, ground, (250, 214, 178), (176, 200, 150))
    x = rng.uniform(0.2, 0.8) * width
    _disc(pen, x, ground * 0.62, 0.09 * height, (250, 150, 90))
    for i in range(3):
        left = (i * 0.4 - 0.2) * width
        pen.ellipse((left, ground * 0.52, left + 0.6 * width, ground * 1.5), fill=(120, 140 + 14 * i, 150))
    pen.rectangle((0, ground * 0.8, width, ground), fill=(120, 176, 214))
    pen.rectangle((0, ground, width, height), fill=(176, 200, 150))
    for _ in range(12):
        x, y = rng.randrange(width), rng.uniform(ground * 0.82, ground * 0.98)
        pen.line((x, y, x + 60, y), fill=(190, 220, 240), width=3)


def rubbish(pen: Pen, rng: random.Random, width: int, height: int, ground: int) -> None:
    """A bin that runs over, and flies."""
    _fill(pen, width, height, ground, (206, 206, 180), (140, 136, 116))
    x, w, h = rng.choice((0.16, 0.84)) * width, 0.09 * height, 0.3 * height
    y = ground + 0.12 * height
    _disc(pen, x - w * 0.5, y - h, w * 0.7, (120, 150, 60))
    _disc(pen, x + w * 0.6, y - h, w * 0.6, (150, 110, 60))
    pen.polygon([(x - w * 1.2, y - h), (x + w * 1.2, y - h), (x + w, y), (x - w, y)], fill=(110, 114, 118))
    pen.ellipse((x - 2 * w, y - 8, x + 2.4 * w, y + 0.07 * height), fill=(130, 170, 50))
    for _ in range(22):
        _disc(pen, x + rng.uniform(-3, 3) * w, y - h - rng.uniform(-0.2, 1.1) * h, 4, (20, 20, 20))


def shards(pen: Pen, rng: random.Random, width: int, height: int, ground: int) -> None:
    """A cracked wall and a broken pot."""
    _fill(pen, width, height, ground, (214, 150, 136), (130, 90, 80))
    for _ in range(4):
        x, y = rng.uniform(0.1, 0.9) * width, rng.uniform(0, 0.2) * height
        points = [(x, y)]
        for _ in range(6):
            x, y = x + rng.uniform(-36, 36), y + rng.uniform(14, 40)
            points.append((x, y))
        pen.line(points, fill=(70, 30, 30), width=5)
    for _ in range(16):
        x, y, r = rng.randrange(width), rng.uniform(ground + 6, height - 10), rng.uniform(8, 20)
        turn = rng.uniform(0, math.tau)
        corners = [(x + r * math.cos(turn + a), y + r * math.sin(turn + a)) for a in (0, 1.7, 3.6)]
        pen.polygon(corners, fill=(60, 110, 170), outline=(20, 40, 70))


def night(pen: Pen, rng: random.Random, width: int, height: int, ground: int) -> None:
    """The dark, bare trees, and eyes."""
    _fill(pen, width, height, ground, (34, 36, 60), (24, 26, 40))
    for _ in range(4):
        x = rng.randrange(width)
        pen.line((x, ground + 20, x, ground * 0.25), fill=(10, 10, 16), width=14)
        for _ in range(5):
            y = rng.uniform(0.3, 0.8) * ground
            pen.line(
                (x, y, x + rng.choice((-1, 1)) * rng.uniform(30, 70), y - rng.uniform(20, 50)),
                fill=(10, 10, 16),
                width=6,
            )
    for _ in range(6):
        x, y = rng.randrange(width), rng.uniform(0.2, 0.9) * ground
        _disc(pen, x - 11, y, 7, (250, 230, 60))
        _disc(pen, x + 11, y, 7, (250, 230, 60))


def rain(pen: Pen, rng: random.Random, width: int, height: int, ground: int) -> None:
    """Grey clouds and rain."""
    _fill(pen, width, height, ground, (160, 170, 184), (118, 126, 134))
    for _ in range(110):
        x, y = rng.randrange(width), rng.uniform(0.15, 1.0) * height
        pen.line((x, y, x - 8, y + 26), fill=(90, 120, 170), width=3)
    for i in range(7):
        _disc(pen, i * width / 6, rng.uniform(0.02, 0.1) * height, 0.12 * height, (104, 110, 122))


PLACES: dict[str, Place] = {
    "": room,
    "Happiness": garden,
    "Excitement": party,
    "Surprise": gift,
    "Peace": lake,
    "Disgust": rubbish,
    "Anger": shards,
    "Fear": night,
    "Sadness": rain,
}
