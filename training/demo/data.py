"""Pictures as tiles with what stands in every patch: endless training data, a pure function of the seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from herovlm.demo import draw, scenes

SIDE = 8  # patches a side of a tile
TILE = SIDE * scenes.PATCH  # pixels
NONE = len(draw.SHAPES)  # class of a patch without an item
COLOURS = list(draw.COLOURS)
IGNORE = -100


@dataclass
class Picture:
    """One scene as the processor cuts it, at scale 1."""

    scene: scenes.Scene
    tiles: Tensor  # (T, 3, TILE, TILE) uint8, tile 0 = thumbnail
    targets: Tensor  # (T, N, 5) int64: shape, colour, three digits (IGNORE away from labels)
    inside: list[list[scenes.Item]]  # items of each tile

    @property
    def local(self) -> tuple[int, int]:
        """Rows and columns of local tiles."""
        width, height = self.scene.image.size
        return -(-height // TILE), -(-width // TILE)

    def place(self, item: scenes.Item, tile: int) -> tuple[int, int]:
        """Column and row of the patch that the middle of an item's shape falls into, in one of its tiles."""
        width, height = self.scene.image.size
        rows, columns = self.local
        x, y = (item.icon_box[0] + item.icon_box[2]) / 2, (item.icon_box[1] + item.icon_box[3]) / 2
        if tile == 0:
            return int(x * SIDE / width), int(y * SIDE / height)
        x, y = x + (columns * TILE - width) // 2, y + (rows * TILE - height) // 2
        return int(x % TILE) // scenes.PATCH, int(y % TILE) // scenes.PATCH

    def middle(self, tile: int) -> tuple[float, float]:
        """Middle of a tile in pixels of the picture."""
        width, height = self.scene.image.size
        if tile == 0:
            return width / 2, height / 2
        rows, columns = self.local
        row, column = divmod(tile - 1, columns)
        left, top = (columns * TILE - width) // 2, (rows * TILE - height) // 2
        return (column + 0.5) * TILE - left, (row + 0.5) * TILE - top


def cut(image: Image.Image) -> np.ndarray:
    """Thumbnail and local tiles, (T, TILE, TILE, 3) uint8: what `LlavaNextImageProcessor` gives at scale 1."""
    width, height = image.size
    rows, columns = -(-height // TILE), -(-width // TILE)
    canvas = np.zeros((rows * TILE, columns * TILE, 3), np.uint8)
    top, left = (rows * TILE - height) // 2, (columns * TILE - width) // 2
    canvas[top : top + height, left : left + width] = np.asarray(image)
    local = canvas.reshape(rows, TILE, columns, TILE, 3).swapaxes(1, 2).reshape(-1, TILE, TILE, 3)
    thumbnail = np.asarray(image.resize((TILE, TILE), Image.Resampling.BICUBIC))
    return np.concatenate([thumbnail[None], local])


def covered(box: tuple[float, float, float, float], least: float) -> list[int]:
    """Patches of a tile that hold at least the share `least` of a box (in pixels of that tile)."""
    left, top, right, bottom = box
    area, found, size = (right - left) * (bottom - top), [], scenes.PATCH
    for row in range(max(0, int(top // size)), min(SIDE, int(bottom // size) + 1)):
        for column in range(max(0, int(left // size)), min(SIDE, int(right // size) + 1)):
            wide = min(right, (column + 1) * size) - max(left, column * size)
            high = min(bottom, (row + 1) * size) - max(top, row * size)
            if wide > 0 and high > 0 and wide * high >= least * area:
                found.append(row * SIDE + column)
    return found


def picture(seed: int, most: int = 10) -> Picture:
    """Draw a scene and say what stands in each patch."""
    scene = scenes.make(seed, most=most)
    width, height = scene.image.size
    rows, columns = -(-height // TILE), -(-width // TILE)
    top, left = (rows * TILE - height) // 2, (columns * TILE - width) // 2
    tiles = torch.from_numpy(cut(scene.image)).permute(0, 3, 1, 2)
    targets = torch.full((len(tiles), SIDE * SIDE, 5), IGNORE)
    targets[:, :, :2] = NONE
    inside: list[list[scenes.Item]] = [list(scene.items)] + [[] for _ in tiles[1:]]
    for item in scene.items:
        look = [draw.SHAPES.index(item.shape), COLOURS.index(item.colour)]
        digits = [int(char) for char in item.text if char != "."]
        x, y = item.cell[0] * scenes.CELL + left, item.cell[1] * scenes.CELL + top
        tile = 1 + (y // TILE) * columns + x // TILE
        inside[tile].append(item)
        dx, dy = left - (x // TILE) * TILE, top - (y // TILE) * TILE
        small = (TILE / width, TILE / height)
        for patch in covered(_scaled(item.icon_box, small), 0.4):
            targets[0, patch, :2] = torch.tensor(look)
        for patch in covered(_shifted(item.icon_box, dx, dy), 0.4):
            targets[tile, patch, :2] = torch.tensor(look)
        for patch in covered(_shifted(item.label_box, dx, dy), 0.4):
            targets[tile, patch] = torch.tensor(look + digits)
    return Picture(scene, tiles, targets, inside)


def _scaled(box: scenes.Box, by: tuple[float, float]) -> tuple[float, float, float, float]:
    return box[0] * by[0], box[1] * by[1], box[2] * by[0], box[3] * by[1]


def _shifted(box: scenes.Box, dx: int, dy: int) -> tuple[float, float, float, float]:
    return box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy


def pixels(tiles: Tensor) -> Tensor:
    """uint8 -> what the processor sends: float32 in -1..1."""
    return tiles.float() / 127.5 - 1.0


class Stream(IterableDataset[list[Picture]]):
    """Endless batches of pictures from a step on; batch `step` is the same in every run."""

    def __init__(self, start: int, size: int, first: int, crowd: int = 10) -> None:
        self.start, self.size, self.first, self.crowd = start, size, first, crowd

    def __iter__(self) -> Iterator[list[Picture]]:
        torch.set_num_threads(1)
        step = self.start
        while True:
            seeds = range(self.first + step * self.size, self.first + (step + 1) * self.size)
            yield [picture(seed, self.crowd if seed % 2 else 10) for seed in seeds]
            step += 1


def stream(start: int, size: int, first: int, crowd: int = 10) -> Iterator[list[Picture]]:
    """Batches drawn by one background process."""
    loader = DataLoader(Stream(start, size, first, crowd), batch_size=None, num_workers=1, prefetch_factor=8)
    return iter(loader)
