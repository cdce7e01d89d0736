"""Masks and order of the picks of the authors' CDPruner; its batch of tiles is one image here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from grids import make_grid
from torch.nn.functional import normalize

from herovlm.methods.cdpruner import CdPruner
from herovlm.types import Seen


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Masks and order of the picks of the authors' CDPruner."""
    features = torch.from_numpy(case["features"])  # (B, N, D)
    image, text = (normalize(torch.from_numpy(case[name]), dim=-1) for name in ("image_embeds", "text_embeds"))
    tiles, patches = features.shape[:2]
    grid = make_grid(min(1, tiles - 1), tiles - 1, round(patches**0.5), newlines=False)
    valid = torch.ones(tiles, patches, dtype=torch.bool)
    seen = Seen(grid, valid, features=features, affinity=(image @ text.T).mean(-1))
    count = int(case["token_num"])
    kept = CdPruner().keep(seen, tiles * count)
    found = {
        "mask": kept.mask,
        "kept": kept.mask.nonzero()[:, 1].view(tiles, -1),
        "greedy_order": kept.why["score"].argsort(descending=True, stable=True)[:, :count],
    }
    return [name for name, value in found.items() if not np.array_equal(value.numpy(), case[name])]
