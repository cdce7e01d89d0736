"""The authors' SparseVLM: raters, three cuts in a row, groups that merge and stand behind, positions renumbered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from herovlm.methods.inside.common import raters
from herovlm.methods.inside.sparsevlm import SparseVlm
from herovlm.types import Cut, SeenInside
from replays import _inside

LAYERS = 32
NOISE = 2  # with so few groups the code's random numbers say who is the centre


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Names of the arrays that differ."""
    plain: Any = tuple(map(int, case["counts"]))
    method = SparseVlm(layers=tuple(int(layer) + 1 for layer in case["cut_after"]), plain=plain, positions="code")
    start, entered = int(case["visual_start"]), torch.from_numpy(case["entered"])
    visual = torch.arange(start, start + int(case["n_visual"]))
    states = (entered[visual], entered[len(entered) - int(case["n_text_after"]) :])
    found: dict[str, tuple[Any, Any]] = {}
    for stage, (layer, granted) in enumerate(method.plan(len(visual), LAYERS).items(), 1):
        hidden, rows = (torch.from_numpy(case[f"stage{stage}_{name}"]) for name in ("states", "text_rows"))
        given = {"text": rows.mean(0), "states": hidden, "entered": states}
        cut = _inside.ask(method, layer, LAYERS, visual, granted, **given)
        everything = _inside.all_columns(torch.ones(1, len(hidden), dtype=torch.bool))
        left, gone_on = _inside.go_on(everything, hidden[None], [visual], [cut])
        if stage == 1:
            look = SeenInside(layer, LAYERS, visual, torch.zeros_like(visual), (granted,), **given)
            found["raters"] = (raters(look, "sparsevlm").nonzero().flatten(), case["raters"])
        assert left.places is not None
        ours = {**merged(cut), "hidden_after": gone_on[0], "position_ids": left.places[0], "count": granted}
        ours["merged"] = gone_on[0, visual[: len(cut.keep)]][cut.merged]
        recycled = torch.from_numpy(case[f"stage{stage}_recycled"])
        theirs = {name: case[f"stage{stage}_{name}"] for name in ("kept", "centres", "merged", "hidden_after")}
        theirs |= {name: case[f"stage{stage}_{name}"] for name in ("position_ids", "count")}
        theirs["cluster"] = torch.full((len(visual),), -1).index_put(
            (recycled,), torch.from_numpy(case[f"stage{stage}_cluster"])
        )
        if len(theirs["centres"]) <= NOISE:
            ours.pop("centres")
        found |= {f"stage{stage}_{name}": (value, theirs[name]) for name, value in ours.items()}
        visual = visual[: len(cut.keep)]
    close = tuple(f"stage{stage}_{name}" for stage in (1, 2, 3) for name in ("merged", "hidden_after"))
    return _inside.wrong(found, close)


def merged(cut: Cut) -> dict[str, Any]:
    """Which positions stay as they are, which are centres, and the group of each position, -1 = none."""
    assert cut.merged is not None
    assert cut.weights is not None
    value, group = cut.weights.max(0)
    return {
        "kept": cut.keep[~cut.merged],
        "centres": cut.keep[cut.merged],
        "cluster": group.masked_fill(value == 0, -1),
    }
