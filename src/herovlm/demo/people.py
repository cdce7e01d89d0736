"""Drawn persons: a face and a posture that tell a feeling (Pillow only)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import ImageDraw

Point = tuple[float, float]
Colour = tuple[int, int, int]
Pen = ImageDraw.ImageDraw
Place = Callable[[float, float, float, float], tuple[float, float, float, float]]  # of a part in the head, in pixels
INK: Colour = (35, 30, 35)
BLUSH: dict[str, Colour] = {"Anger": (226, 110, 90), "Fear": (208, 214, 226), "Disgust": (190, 205, 140)}
SKINS: tuple[Colour, ...] = ((244, 208, 176), (224, 172, 130), (160, 110, 78), (110, 74, 52))


@dataclass(frozen=True)
class Posture:
    """Joints in heights of the person, x to the right of the feet and y above the ground."""

    elbows: tuple[Point, Point]
    hands: tuple[Point, Point]
    knees: tuple[Point, Point]
    feet: tuple[Point, Point]
    sunk: float = 0.0  # how much lower hip and all above it are
    bowed: Point = (0.0, 0.0)  # of the head


def _mirrored(elbow: Point, hand: Point, knee: Point, foot: Point, sunk: float = 0.0, bowed: Point = (0, 0)) -> Posture:
    """Make both sides alike; points are those on the right."""

    def pair(point: Point) -> tuple[Point, Point]:
        return (-point[0], point[1]), point

    return Posture(pair(elbow), pair(hand), pair(knee), pair(foot), sunk, bowed)


STANDING = ((0.07, 0.22), (0.08, 0.0))
APART = ((0.13, 0.22), (0.17, 0.0))
POSTURES: dict[str, Posture] = {
    "": _mirrored((0.16, 0.52), (0.17, 0.37), *STANDING),
    "Happiness": _mirrored((0.2, 0.66), (0.35, 0.74), *STANDING),
    "Excitement": _mirrored((0.2, 0.8), (0.24, 1.02), *APART),
    "Surprise": _mirrored((0.26, 0.68), (0.13, 0.8), *STANDING),
    "Peace": _mirrored((0.18, 0.55), (0.26, 0.42), (0.28, 0.36), (-0.1, 0.33), 0.33),
    "Disgust": Posture(
        ((-0.14, 0.55), (0.18, 0.67)),
        ((-0.1, 0.4), (0.38, 0.7)),
        ((-0.1, 0.22), (0.03, 0.22)),
        ((-0.14, 0.0), (0.06, 0)),
    ),
    "Anger": _mirrored((0.25, 0.56), (0.1, 0.46), *APART),
    "Fear": _mirrored((0.17, 0.56), (0.05, 0.73), (0.13, 0.24), (0.06, 0.0), 0.1),
    "Sadness": _mirrored((0.1, 0.5), (0.09, 0.33), *STANDING, sunk=0.03, bowed=(0.05, -0.07)),
}


def person(
    pen: Pen, foot: Point, height: float, face: str, posture: str, clothes: tuple[Colour, Colour, Colour]
) -> tuple[float, float, float, float]:
    """Draw a person who stands at `foot`, and return the box around it.

    Args:
        pen: of the picture.
        foot: x and y in pixels.
        height: in pixels; arms may be raised a little above it.
        face: feeling that the face tells, "" for none.
        posture: feeling that the posture tells, "" for none.
        clothes: colours of skin, shirt and trousers.
    """
    pose = POSTURES[posture]
    drawn: list[tuple[float, float, float]] = []  # points with the reach of the line around them
    skin, shirt, trousers = clothes
    down = pose.sunk

    def at(point: Point, lower: float = down) -> Point:
        return foot[0] + point[0] * height, foot[1] - (point[1] - lower) * height

    def limb(colour: Colour, width: float, *points: Point) -> None:
        pen.line(points, fill=colour, width=round(width * height), joint="curve")
        for x, y in points:
            r = width * height / 2
            drawn.append((x, y, r))
            pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    ground = pose.sunk if posture == "Peace" else 0.0  # who sits has the feet sunk too
    for side, knee, toe in zip((-0.05, 0.05), pose.knees, pose.feet, strict=True):
        limb(trousers, 0.085, at((side, 0.42)), at(knee, ground), at(toe, ground))
    limb(shirt, 0.17, at((0, 0.45)), at((0, 0.62)))
    for side, elbow, hand in zip((-0.09, 0.09), pose.elbows, pose.hands, strict=True):
        limb(shirt, 0.065, at((side, 0.66)), at(elbow))
        limb(skin, 0.055, at(elbow), at(hand))
    x, y = at((pose.bowed[0], 0.84 + pose.bowed[1]))
    head(pen, (x, y), 0.135 * height, face, BLUSH.get(face, skin))
    drawn.append((x, y, 0.135 * height))
    return (
        min(x - r for x, _, r in drawn),
        min(y - r for _, y, r in drawn),
        max(x + r for x, _, r in drawn),
        max(y + r for _, y, r in drawn),
    )


def head(pen: Pen, centre: Point, radius: float, face: str, skin: Colour) -> None:
    """Draw a head with a face; everything is measured in radii."""
    x, y = centre

    def box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        return x + left * radius, y + top * radius, x + right * radius, y + bottom * radius

    wide = max(1, round(radius * 0.12))
    pen.ellipse(box(-1, -1, 1, 1), fill=skin, outline=INK, width=wide)
    _eyes(pen, box, face, wide)
    _brows(pen, box, face, wide)
    _mouth(pen, box, face, wide)


def _eyes(pen: Pen, box: Place, face: str, wide: int) -> None:
    for side in (-0.4, 0.4):
        if face == "Peace":
            pen.arc(box(side - 0.2, -0.25, side + 0.2, 0.1), 0, 180, fill=INK, width=wide)
        elif face in ("Surprise", "Fear", "Excitement"):
            pen.ellipse(box(side - 0.25, -0.38, side + 0.25, 0.12), fill="white", outline=INK, width=max(1, wide // 2))
            pen.ellipse(box(side - 0.09, -0.22, side + 0.09, -0.04), fill=INK)
        elif face == "Disgust":
            pen.line(box(side - 0.2, -0.1, side + 0.2, -0.1), fill=INK, width=wide)
        else:
            pen.ellipse(box(side - 0.11, -0.21, side + 0.11, 0.01), fill=INK)
    if face == "Sadness":
        pen.ellipse(box(0.32, 0.1, 0.52, 0.5), fill=(70, 140, 230))


BROWS = {  # outer and inner height, in radii above the centre
    "Surprise": (0.62, 0.68),
    "Excitement": (0.58, 0.6),
    "Anger": (0.58, 0.24),
    "Disgust": (0.42, 0.26),
    "Fear": (0.42, 0.68),
    "Sadness": (0.26, 0.5),
}


def _brows(pen: Pen, box: Place, face: str, wide: int) -> None:
    if face == "Peace":
        return
    outer, inner = BROWS.get(face, (0.42, 0.42))
    pen.line(box(-0.66, -outer, -0.2, -inner), fill=INK, width=wide)
    pen.line(box(0.2, -inner, 0.66, -outer), fill=INK, width=wide)


def _mouth(pen: Pen, box: Place, face: str, wide: int) -> None:
    if face == "Happiness":
        pen.arc(box(-0.5, -0.1, 0.5, 0.66), 15, 165, fill=INK, width=wide)
    elif face == "Peace":
        pen.arc(box(-0.35, 0.1, 0.35, 0.5), 20, 160, fill=INK, width=wide)
    elif face == "Excitement":
        pen.chord(box(-0.5, -0.05, 0.5, 0.75), 0, 180, fill=(150, 30, 40), outline=INK, width=max(1, wide // 2))
    elif face == "Surprise":
        pen.ellipse(box(-0.2, 0.2, 0.2, 0.75), fill=(110, 30, 40), outline=INK, width=max(1, wide // 2))
    elif face in ("Anger", "Sadness"):
        pen.arc(box(-0.45, 0.35, 0.45, 1.0), 200, 340, fill=INK, width=wide)
    elif face in ("Fear", "Disgust"):
        left, top, right, bottom = box(-0.5, 0.36, 0.5, 0.56)
        steps = [(left + (right - left) * i / 6, top if i % 2 else bottom) for i in range(7)]
        pen.line(steps, fill=INK, width=wide, joint="curve")
        if face == "Disgust":
            pen.ellipse(box(-0.15, 0.45, 0.2, 0.85), fill=(220, 90, 110))
    else:
        pen.line(box(-0.3, 0.45, 0.3, 0.45), fill=INK, width=wide)
