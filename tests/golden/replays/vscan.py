"""Local and global patches, merged tokens and sequence of the encoder stage of the authors' VScan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from herovlm.methods.vscan import VScan
from herovlm.types import Seen
from replays import _tiled


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Compare on a canvas without padding; blocks by number, of 24, which the method's own fields name."""
    shallow, deep = (torch.from_numpy(case[name])[..., 1:] for name in ("shallow_rows", "deep_rows"))  # (T, H, N)
    tiles, _, patches = deep.shape
    features = torch.from_numpy(case["features"] @ case["proj_weight"].T + case["proj_bias"])
    seen = Seen(
        _tiled.grid_of(case, tiles, patches, newlines=tiles > 1),
        _tiled.whole(tiles, patches),
        features=features,
        attention={5: shallow, 22: deep},
        depth=24,
    )
    count = int(case["token_num"])
    kept = VScan(variant="official").keep(seen, tiles * count)
    local = VScan(variant="official", local=1).keep(seen, tiles * (count // 2))
    found = {
        "mask": kept.mask,
        "n_kept": kept.granted,
        "local": local.mask.nonzero()[:, 1].view(tiles, -1),
    }
    if tiles > 1:
        order = seen.grid.order[seen.grid.on_slots(kept.mask, kept.newlines)]
        found["sequence_order"] = torch.where(
            order[:, None] >= 0, torch.stack([order // patches, order % patches], 1), -1
        )
    assert kept.features is not None
    close = np.allclose(kept.features.view(case["tokens"].shape), case["tokens"], atol=1e-5)
    return _tiled.wrong(case, found) + ["tokens"] * (not close)
