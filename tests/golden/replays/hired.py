"""Masks and tile budgets of the authors' HiRED, by their code and by their paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from grids import make_grid
from torch import Tensor

from herovlm.methods.hired import Hired
from herovlm.types import Grid, Kept, Seen


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Masks and tile budgets of the authors' HiRED, by their code and by their paper, and their packing unswapped.

    The authors' choice is blind to padding, so it is compared on a canvas that has none; un-padding then takes what
    stood on padding.  `packed_order` and `packed_len` are left out: there the code swaps rows and columns of the grid,
    and so cuts away picture; the order of the same patches in the true grid is compared.
    """
    tiles = [int(t) for t in case["tiles_per_image"]]
    late = torch.from_numpy(case["block22_rows"]).split(tiles)  # each (T, H, 1 + N)
    images = zip(case["block0_rows_thumbnail"], late, case["grid_hw"], case["image_sizes_hw"], strict=True)
    found: dict[str, list[Tensor]] = {name: [] for name in FOUND}
    for index, (early, rows, (high, wide), size) in enumerate(images):
        side = round((rows.shape[-1] - 1) ** 0.5)
        whole = torch.ones(len(rows), side * side, dtype=torch.bool)
        attention = {0: torch.from_numpy(early)[None, ..., 1:].expand(len(rows), -1, -1), 1: rows[..., 1:]}
        blind = Seen(make_grid(int(high), int(wide), side, newlines=False), whole, attention=attention, depth=3)
        code, paper = keep("official", blind, case), keep("paper", blind, case)
        padded = replace(blind, valid=unpadded(blind.grid, whole, tuple(size.tolist())))
        order = blind.grid.order[keep("official", padded, case).mask.flatten()[blind.grid.order]]
        packed = order + sum(tiles[:index]) * side * side
        values = (code.mask, code.granted, paper.mask, paper.granted, packed, torch.tensor([len(packed)]))
        for name, value in zip(FOUND, values, strict=True):
            found[name].append(value)
    return [name for name, values in found.items() if not np.array_equal(torch.cat(values).numpy(), case[name])]


FOUND = ("mask", "tile_budget", "paper_mask", "paper_tile_budget", "packed_order_true_grid", "packed_len_true_grid")


def keep(variant: Literal["official", "paper"], seen: Seen, case: Mapping[str, np.ndarray]) -> Kept:
    """One image under the case's budget rate and alpha."""
    share = float(case["budget_rate"])
    method = Hired(variant=variant, alpha=float(case["alpha"]))
    return method.keep(seen, max(1, round(share * seen.positions)), share=share)


def unpadded(grid: Grid, whole: Tensor, size: tuple[int, int]) -> Tensor:
    """Patches that the model's own un-padding leaves of the canvas, and the thumbnail: (T, N) bool."""
    from transformers.models.llava_next.modeling_llava_next import unpad_image

    cells, (rows, cols) = whole.shape[1], grid.tiles
    canvas = grid.order[cells:].view(1, rows * grid.side, cols * grid.side)
    valid = torch.zeros_like(whole)
    valid[0] = True
    valid.view(-1)[unpad_image(canvas, size).flatten()] = True
    return valid
