"""Budgets, masks and number of positions of the authors' HERO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from grids import make_grid

from herovlm.methods.hero import Hero
from herovlm.types import Kept, Seen


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Budgets, masks and number of positions of the authors' HERO."""
    low, high = torch.from_numpy(case["low_rows"]), torch.from_numpy(case["high_rows"])  # (L, K, H, N+1), (L, H, N+1)
    none = torch.zeros_like(low[0])  # the thumbnail has no low rows, the local tiles no high ones
    blocks = {b: torch.cat([none[:1], rows])[..., 1:] for b, rows in enumerate(low)}  # each (T, H, N)
    for b, rows in enumerate(high, start=len(low)):
        blocks[b] = torch.cat([rows[None], none])[..., 1:]
    valid = torch.from_numpy(case["valid_mask"])
    rows, cols = (int(n) for n in case["grid_hw"])
    side = round(valid.shape[1] ** 0.5)
    canvas = valid.view(rows, cols, side, side).any(1).any(-1).flatten()  # canvas rows that un-padding keeps
    seen = Seen(
        make_grid(rows, cols, side, canvas),
        torch.cat([torch.ones_like(valid[:1]), valid]),
        attention=blocks,
        cls=torch.from_numpy(case["cls"]),
        relevance=torch.cat([torch.zeros(1), torch.from_numpy(case["clip_cosine"])]),
        depth=len(blocks),
    )
    method = Hero(
        variant="official",
        low_layers=tuple(range(len(low))),
        high_layers=tuple(range(len(low), len(blocks))),
        alpha=float(case["alpha"]),
        t_cls=float(case["T_cls"]),
        t_clip=float(case["T_clip"]),
    )
    share = float(case["R"])
    return compare_hero(method.keep(seen, max(1, round(share * seen.positions)), share=share), case)


def compare_hero(kept: Kept, case: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the arrays in which a record of HERO differs from a golden case."""
    found = {
        "alloc": kept.granted[1:],
        "local_mask": kept.mask[1:],
        "global_mask": kept.mask[0],
        "llm_tokens": torch.tensor(kept.positions),
    }
    return [name for name, value in found.items() if not np.array_equal(value.cpu().numpy(), case[name])]
