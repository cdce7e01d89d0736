"""Scores, kept patches and features of the authors' VTC-CLS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from grids import make_grid

from herovlm.methods.vtc_cls import VtcCls
from herovlm.types import Seen


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Scores, kept patches and features of the authors' VTC-CLS; blocks by number up to the one before the last."""
    rows, features = torch.from_numpy(case["cls_rows"]), torch.from_numpy(case["features"])  # (L, H, 1 + N), (N, D)
    cells = len(features)
    seen = Seen(
        make_grid(0, 0, round(cells**0.5)),
        torch.ones(1, cells, dtype=torch.bool),
        features=features[None],
        attention={block: row[None, :, 1:] for block, row in enumerate(rows)},
        depth=len(rows),
    )
    kept = VtcCls(first=int(case["start_layer"])).keep(seen, int(case["token_num"]))
    found = {"kept": kept.mask[0].nonzero()[:, 0].numpy(), "features_out": features[kept.mask[0]].numpy()}
    close = np.allclose(kept.why["score"][0].numpy(), case["scores"], rtol=1e-5)
    return [name for name, value in found.items() if not np.array_equal(value, case[name])] + ["scores"] * (not close)
