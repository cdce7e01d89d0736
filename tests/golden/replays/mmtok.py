"""Keywords, masks and order of the picks of the authors' MMTok."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from grids import make_grid

from herovlm.methods.mmtok import MmTok
from herovlm.prompt.words import keywords
from herovlm.types import Seen


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Names of the arrays that differ."""
    features, hidden, text = (torch.from_numpy(case[name]) for name in ("projected", "clip", "text"))
    tiles, patches = features.shape[:2]
    grid = make_grid(min(1, tiles - 1), tiles - 1, round(patches**0.5), newlines=False)
    valid = torch.ones(tiles, patches, dtype=torch.bool)
    valid[:, torch.from_numpy(case["padding"])] = False
    seen = Seen(grid, valid, features=features, hidden=hidden[:, 1:], words={"keywords": text})
    alpha, said, shown = (float(case[name]) for name in ("alpha", "tv_temperature", "vv_temperature"))
    method = MmTok(alpha=alpha, text_temperature=said, picture_temperature=shown, padding="covered")
    count = int(case["token_num"])
    kept = method.keep(seen, tiles * count)
    found = {
        "kept": kept.mask.nonzero()[:, 1].view(tiles, -1).numpy(),
        "order": kept.why["score"].argsort(descending=True, stable=True)[:, :count].numpy(),
        "tokens": features[kept.mask].view(tiles, count, -1).numpy(),
        "keywords": np.array(keywords(str(case["question"]))),
    }
    return [name for name, value in found.items() if not np.array_equal(value, case[name])]
