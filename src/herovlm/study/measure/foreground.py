"""What stands in every patch of a drawn scene; of other pictures nobody knows it.

A patch shows an item when shape or label covers at least `LEAST` of the patch, or the patch as much of them: whichever
is smaller, so that it holds for fine and for coarse patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from herovlm.demo import draw, scenes
from herovlm.eval.samples import SCENES, Asked, Picture
from herovlm.types import Grid
from herovlm.viz import geometry
from herovlm.viz.geometry import Box

LEAST = 0.4
NOTHING = -1


@dataclass(frozen=True)
class Shown:
    """What the patches of a picture show."""

    shape: Tensor  # (T, N) int64: index of a shape or, where its label stands, of the shape it belongs to; -1 = nothing
    digit: Tensor  # (T, N) int64: the middle digit of the label that stands there; -1 = no label
    count: int  # items in the picture

    @property
    def foreground(self) -> Tensor:
        """(T, N) bool: patches that show an item."""
        return self.shape != NOTHING


def known(asked: Asked) -> bool:
    """Return whether the pictures of a task are scenes that were drawn, so that their foreground is known."""
    return asked.task.splits[asked.split].startswith(SCENES)


def of(asked: Asked, picture: Picture, grid: Grid) -> Shown | None:
    """Return what stands in the patches of a picture, if it is a scene and cut into tiles.

    How a model of one tile makes a square of a picture is not known here.
    """
    return shown(scenes.make(int(picture.name)), grid) if known(asked) and any(grid.tiles) else None


def shown(scene: scenes.Scene, grid: Grid) -> Shown:
    """Return what stands in the patches of a scene as a model cuts it."""
    tiles, patches = grid.lead + grid.tiles[0] * grid.tiles[1], grid.side * grid.side
    shape = torch.full((tiles, patches), NOTHING)
    digit = shape.clone()
    for tile in range(tiles):
        for patch in range(patches):
            box = geometry.pixels(scene.image.size, grid, tile, patch)
            most = 0.0
            for item in scene.items:
                label, icon = (_covered(box, part) for part in (item.label_box, item.icon_box))
                if max(label, icon) >= LEAST and max(label, icon) > most:
                    most = max(label, icon)
                    shape[tile, patch] = draw.SHAPES.index(item.shape)
                    signs = item.text.replace(".", "")
                    digit[tile, patch] = int(signs[len(signs) // 2]) if label >= LEAST else NOTHING
    return Shown(shape, digit, len(scene.items))


def _covered(patch: Box, item: scenes.Box) -> float:
    """Area that patch and item share, over the smaller of the two."""
    left, top, right, bottom = item
    wide = min(right, patch.x + patch.width) - max(left, patch.x)
    high = min(bottom, patch.y + patch.height) - max(top, patch.y)
    smaller = min((right - left) * (bottom - top), patch.width * patch.height)
    return max(wide, 0.0) * max(high, 0.0) / smaller
