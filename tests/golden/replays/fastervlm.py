"""Patches and sequence of the authors' FasterVLM: as many in every tile, padding among them, and no newline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from herovlm.methods.base import Method
from herovlm.methods.fastervlm import FasterVlm
from herovlm.types import Seen
from replays import _tiled


def differences(case: Mapping[str, np.ndarray], path: Path, method: Method | None = None) -> list[str]:
    """Compare on a canvas without padding, to which the authors' choice is blind."""
    rows = torch.from_numpy(case["cls_rows"])[..., 1:]  # (T, H, N)
    tiles, _, patches = rows.shape
    seen = Seen(
        _tiled.grid_of(case, tiles, patches),
        _tiled.whole(tiles, patches),
        attention={0: rows},
        hidden=torch.from_numpy(case["hidden"]) if "hidden" in case else None,
        depth=1,
    )
    kept = (method or FasterVlm(layer=0)).keep(seen, tiles * int(case["token_num"]))
    found = {
        "mask": kept.mask,
        "sequence_order": _tiled.sequence(seen.grid, kept.mask),
        "n_tokens": kept.positions,
    }
    return _tiled.wrong(case, found)
