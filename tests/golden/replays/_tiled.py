"""Whole canvases for code that knows no padding, and the order in which kept patches reach the language model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from grids import make_grid
from torch import Tensor

from herovlm.types import Grid


def grid_of(case: Mapping[str, np.ndarray], tiles: int, patches: int, newlines: bool = False) -> Grid:
    """The grid of a case; several tiles without one were a batch, and stand side by side here."""
    cols, rows = (int(n) for n in case.get("grid_wh", (0, 0)))
    if tiles > 1 and not cols:
        cols, rows = tiles - 1, 1
    return make_grid(rows, cols, round(patches**0.5), newlines=newlines)


def whole(tiles: int, patches: int) -> Tensor:
    """No padding: (T, N) bool."""
    return torch.ones(tiles, patches, dtype=torch.bool)


def sequence(grid: Grid, mask: Tensor) -> Tensor:
    """Kept patches as (tile, patch) in the order of the canvas: (T, N) bool -> (n, 2)."""
    flat, patches = grid.order[grid.order >= 0], mask.shape[1]
    flat = flat[mask.flatten()[flat]]
    return torch.stack([flat // patches, flat % patches], 1)


def wrong(case: Mapping[str, np.ndarray], found: Mapping[str, Tensor | int]) -> list[str]:
    """Names of the arrays that are not equal."""
    return [name for name, value in found.items() if not np.array_equal(np.asarray(value), case[name])]
