"""Order of the picks of the authors' DivPrune, newlines among the candidates and left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from herovlm.methods.divprune import DivPrune
from herovlm.types import Kept, Seen
from replays import _tiled


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Compare what stands in the sequence, who is picked and when, and the same kernel on patches alone."""
    features = torch.from_numpy(case["features"])  # (T, N, D)
    tiles, patches, _ = features.shape
    grid = _tiled.grid_of(case, tiles, patches, newlines=tiles > 1)
    stand = torch.from_numpy(case["slots"])
    tile, patch = stand[stand[:, 0] >= 0].T
    valid = torch.zeros(tiles, patches, dtype=torch.bool)
    valid[tile, patch] = True
    sent = torch.zeros(grid.rows + 1, dtype=torch.bool)  # a newline closes every row of which something is left
    sent[grid.row[valid]] = True
    newline = torch.from_numpy(case["newline"])
    seen = Seen(replace(grid, sent=sent[:-1]), valid, features=features, newline=newline)
    ratio = float(case["subset_ratio"])
    kept = DivPrune(variant="official").keep(seen, round(ratio * seen.positions), share=ratio)
    alone = DivPrune().keep(seen, len(case["patch_order"]))
    best = alone.why["score"].flatten().argsort(descending=True)[: len(case["patch_order"])]
    found = {
        "slots": codes(seen.slots, patches),
        "n_tokens": kept.positions,
        "greedy_order": picked(seen, kept),
        "kept_slots": codes(seen.slots[stays(seen, kept)], patches),
        "patch_order": codes(best, patches),
    }
    return _tiled.wrong(case, found)


def codes(slots: Tensor, patches: int) -> Tensor:
    """(tile, patch) of slots, a newline (-1, -1)."""
    return torch.where(slots[:, None] >= 0, torch.stack([slots // patches, slots % patches], 1), -1)


def stays(seen: Seen, kept: Kept) -> Tensor:
    """Which of the slots were kept, (positions,) bool."""
    return torch.cat((kept.mask.flatten(), kept.newlines.flip(0)))[seen.slots]


def picked(seen: Seen, kept: Kept) -> Tensor:
    """Kept slots in the order of the picks: patches by score; newlines, which are equal, fill the gaps by position."""
    slots, where = seen.slots, stays(seen, kept).nonzero()[:, 0]
    rank = torch.where(slots >= 0, len(slots) - kept.why["score"].flatten()[slots.clamp(min=0)].long(), -1)[where]
    gaps = torch.ones(len(where), dtype=torch.bool)
    gaps[rank[rank >= 0]] = False
    rank[rank < 0] = gaps.nonzero()[:, 0]
    return where[rank.argsort()]
