"""The authors' SparseVLM 2.0: heads chosen, distance divided out, three cuts in a row at the original places."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from herovlm.methods.inside.common import raters
from herovlm.methods.inside.sparsevlm_plus import SparseVlmPlus
from herovlm.types import SeenInside
from replays import _inside

LAYERS = 32


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Names of the arrays that differ."""
    plain: Any = tuple(map(int, case["counts"]))
    layers = tuple(int(layer) + 1 for layer in case["cut_after"])
    method = SparseVlmPlus(layers=layers, plain=plain, heads=int(case["n_heads_used"]), floor=None)
    start, entered = int(case["visual_start"]), torch.from_numpy(case["entered"])
    visual = torch.arange(start, start + int(case["n_visual"]))
    given = {"entered": (entered[visual], entered[len(entered) - int(case["n_text_after"]) :])}
    left = _inside.all_columns(torch.ones(1, len(entered), dtype=torch.bool))
    found: dict[str, tuple[Any, Any]] = {}
    for stage, (layer, granted) in enumerate(method.plan(len(visual), LAYERS).items(), 1):
        hidden, rows = (torch.from_numpy(case[f"stage{stage}_{name}"]) for name in ("states", "text_rows"))
        given |= {"heads": rows, "turned": turned(left.index[0], int(case["head_dim"]), float(case["rope_base"]))}
        if stage == 1:
            look = SeenInside(layer, LAYERS, visual, torch.zeros_like(visual), (granted,), **given)
            found["raters"] = (raters(look, "sparsevlm_plus").nonzero().flatten(), case["raters"])
        cut = _inside.ask(method, layer, LAYERS, visual, granted, **given)
        left, gone_on = _inside.go_on(left, hidden[None], [visual], [cut])
        ours = {"kept": cut.keep, "hidden_after": gone_on[0], "position_ids": left.index[0]}
        found |= {f"stage{stage}_{name}": (value, case[f"stage{stage}_{name}"]) for name, value in ours.items()}
        visual = visual[: len(cut.keep)]
    return _inside.wrong(found)


def turned(places: Tensor, channels: int, base: float) -> Tensor:
    """A vector of ones, rotated by position: (n,) -> (n, channels)."""
    angles = places[:, None].double() * base ** (-torch.arange(0, channels, 2).double() / channels)
    return torch.cat([angles.cos() - angles.sin(), angles.cos() + angles.sin()], 1).float()
