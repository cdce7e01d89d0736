"""One prompt of a golden case before a layer: what a method is asked, and what the engine makes of its answer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from herovlm.llm import columns
from herovlm.llm.columns import Columns
from herovlm.methods.inside.base import Inside
from herovlm.types import Cut, SeenInside


def all_columns(real: Tensor) -> Columns:
    """Every column of a batch, (B, n) bool."""
    return Columns(torch.arange(real.shape[1]).expand_as(real), real)


def ask(method: Inside, layer: int, depth: int, visual: Tensor, granted: int, **signals: Any) -> Cut:
    """Ask a method about the one image of a prompt."""
    return method.cut(SeenInside(layer, depth, visual, torch.zeros_like(visual), (granted,), **signals))


def go_on(before: Columns, hidden: Tensor, visual: list[Tensor], cuts: list[Cut | None]) -> tuple[Columns, Tensor]:
    """Leave out what is not kept, padding at the right."""
    return columns.cut(before, hidden, visual, cuts, left=False)


def wrong(found: dict[str, tuple[Any, Any]], close: tuple[str, ...] = ()) -> list[str]:
    """Names of the arrays that differ; those in `close` may by 1e-4."""
    names = []
    for name, (ours, theirs) in found.items():
        ours, theirs = torch.as_tensor(ours), torch.as_tensor(theirs)
        same = ours.shape == theirs.shape and torch.allclose(
            ours.double(), theirs.double(), rtol=0, atol=1e-4 if name in close else 0
        )
        names += [] if same else [name]
    return names
