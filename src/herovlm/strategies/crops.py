"""The square that boxes are shares of, and what is cut out of it."""

from __future__ import annotations

from typing import Any

from PIL import Image

from herovlm.ops import region
from herovlm.ops.region import Box

Colour = tuple[int, int, int]


def colour(images: Any) -> Colour:
    """Return the mean colour of an image processor, which it makes zero of."""
    red, green, blue = (int(255 * mean) for mean in images.image_mean)
    return red, green, blue


def square(picture: Image.Image, fill: Colour) -> Image.Image:
    """Put a picture in the middle of a square whose side is its longer one."""
    side = max(picture.size)
    if picture.size == (side, side):
        return picture
    whole = Image.new("RGB", (side, side), fill)
    whole.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return whole


def cut(picture: Image.Image, box: Box, fill: Colour) -> Image.Image:
    """Cut a box out of a picture's square, as a square; the box of the whole square is the picture itself.

    Args:
        picture: RGB.
        box: within the square; one that is less than a pixel wide or high is widened to one.
        fill: colour of what does not belong to the picture.
    """
    if box == region.WHOLE:
        return picture
    side = max(picture.size)
    left, top, right, bottom = region.pixels(region.sound(box, 1 / side), side)
    found = square(picture, fill).crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    return square(found, fill)


def within(picture: tuple[int, int], shares: Box) -> Box:
    """Turn shares of a picture (width, height) into shares of its square."""
    width, height = picture
    side = max(picture)
    across, down = (side - width) // 2, (side - height) // 2
    left, top, right, bottom = shares
    return (
        (across + left * width) / side,
        (down + top * height) / side,
        (across + right * width) / side,
        (down + bottom * height) / side,
    )
