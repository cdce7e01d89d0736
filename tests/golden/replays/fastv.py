"""The authors' FastV: which positions stay behind layer K, with their places and states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from herovlm.methods.inside.fastv import FastV
from replays import _inside


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Names of the arrays that differ."""
    layer, start, count = (int(case[name]) for name in ("agg_layer", "system_length", "image_length"))
    hidden = torch.from_numpy(case["hidden"])[None]  # (1, L, D)
    visual = torch.arange(start, start + count)
    method = FastV(layer=layer, tokens=int(case["rank"]))
    granted = method.plan(count, layer + 1)[layer]
    cut = _inside.ask(method, layer, layer + 1, visual, granted, last=torch.from_numpy(case["last_row"]))
    real = torch.ones(hidden.shape[:2], dtype=torch.bool)
    left, states = _inside.go_on(_inside.all_columns(real), hidden, [visual], [cut])
    mask = torch.zeros_like(real[0])
    mask[left.index[0]] = True
    return _inside.wrong(
        {
            "kept": (cut.keep, case["kept"]),
            "position_ids_after": (left.index[0], case["position_ids_after"]),
            "hidden_after": (states[0], case["hidden_after"]),
            "attention_mask_variant": (mask, case["attention_mask_variant"]),
        }
    )
