"""Order of the picks and tokens of the authors' SCOPE."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from herovlm.methods.scope import ScopePrune
from herovlm.types import Seen
from replays import _tiled


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Compare on a canvas without padding, to which the authors' choice is blind."""
    rows, hidden = torch.from_numpy(case["cls_rows"])[..., 1:], torch.from_numpy(case["hidden"])
    tiles, heads, patches = rows.shape
    seen = Seen(
        _tiled.grid_of(case, tiles, patches),
        _tiled.whole(tiles, patches),
        attention={0: rows},
        hidden=hidden,
        depth=1,
        heads=heads,
    )
    combine = "sum" if case["additive"] else "product"
    method = ScopePrune(layer=0, alpha=float(case["alpha"]), combine=combine)
    count = int(case["token_num"]) // tiles
    kept = method.keep(seen, tiles * count)
    found = {
        "per_tile": count,
        "order": kept.why["score"].argsort(descending=True, stable=True)[:, :count],
        "kept": kept.mask.nonzero()[:, 1].view(tiles, -1),
        "tokens": hidden[kept.mask].view(tiles, count, -1),
    }
    if tiles > 1:
        found["sequence_order"] = _tiled.sequence(seen.grid, kept.mask)
    return _tiled.wrong(case, found)
