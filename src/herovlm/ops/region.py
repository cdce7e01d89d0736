"""A region of interest: read from what a model wrote, made sound, or found as the best square of some weights.

A box is left, top, right and bottom as shares of the picture's square: the picture in the middle of a square whose side
is its longer one.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
_LIST = re.compile(r"[\[(]([^\[\]()]*)[\])]")


def read(text: str) -> Box | None:
    """Read the first four numbers of the first list "[0.1, 0.2, 0.5, 0.8]" of a text, or of the text.

    Further numbers are ignored; None where there are fewer, or one of the four is no finite number.
    """
    for inner in (*_LIST.findall(text), text.strip(" \t\r\n.[]()")):
        pieces = [piece for piece in re.split(r"[\s,;]+", inner) if piece]
        values = [_number(piece) for piece in pieces[:4]]
        if len(values) == 4 and all(map(math.isfinite, values)):
            return values[0], values[1], values[2], values[3]
    return None


def _number(piece: str) -> float:
    try:
        return float(piece)
    except ValueError:
        return math.nan


def sound(box: Box | None, least: float = 0.0) -> Box:
    """Put the corners of a box in order, cut it at the square, and widen it to a least side.

    Args:
        box: what was read; None stands for the whole square, as does a box of which nothing lies in the square.
        least: the least side, as a share of the square's.
    """
    if box is None:
        return WHOLE
    spans = []
    for ends in (box[0::2], box[1::2]):
        if max(ends) <= 0 or min(ends) >= 1:
            return WHOLE
        low, high = (min(max(end, 0.0), 1.0) for end in sorted(ends))
        if high - low < least:
            half = min(least, 1.0) / 2
            middle = min(max((low + high) / 2, half), 1 - half)
            low, high = max(middle - half, 0.0), min(middle + half, 1.0)
        spans.append((low, high))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


def text(box: Box) -> str:
    """Write a box as the authors teach it: "[0.125, 0.25, 0.625, 0.75]", three decimals."""
    return str([round(end, 3) for end in box])


def pixels(box: Box, side: int) -> tuple[int, int, int, int]:
    """Turn a box into pixels of a square: each number times the side, halves to the even one."""
    left, top, right, bottom = (round(side * end) for end in box)
    return left, top, right, bottom


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes; 0 where neither has an area."""
    wide = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    high = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    union = sum(areas) - wide * high
    return wide * high / union if union > 0 else 0.0


def densest(weights: Tensor, unit: int = 1) -> tuple[int, int, int]:
    """Find the square S of cells with most weight above the mean: the argmax of sum over S of (w - mean w).

    A larger square has to pay for its area, so that the weights say how large it is; of equals the smallest, then the
    first in raster order.

    Args:
        weights: (H, W), 0 where there is nothing.
        unit: sides are whole multiples of it, in cells; where none fits, the side is the shorter one of the map.

    Returns:
        Row, column and side of the square.
    """
    excess = weights.double() - weights.double().mean()
    short, step = min(excess.shape), max(unit, 1)
    sums = torch.nn.functional.pad(excess, (1, 0, 1, 0)).cumsum(0).cumsum(1)
    best, found = -math.inf, (0, 0, short)
    for side in range(step, short + 1, step) or (short,):
        inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        most = inside.max().item()
        if most > best + 1e-12:
            row, column = divmod(int(inside.flatten().argmax()), inside.shape[1])
            best, found = most, (row, column, side)
    return found
