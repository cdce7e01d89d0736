"""FLOPs of what really runs: torch's own counter, taught the operations that it does not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

Shape = Sequence[int]


def counter() -> FlopCounterMode:
    """Count the FLOPs of all matrix products and convolutions while the body runs.

    A causal mask saves nothing here: attention is counted as if every position saw all of them.  Kernels from elsewhere
    (flash_attention_2) are not counted.
    """
    known = {_operation(name): count for name, count in UNKNOWN.items()}
    return FlopCounterMode(display=False, custom_mapping={op: count for op, count in known.items() if op is not None})


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Count attention."""
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _grouped(rows: Shape, weights: Shape, *_: Any, **__: Any) -> int:
    """Count rows (S, C) that each go through one of several experts (E, C, D)."""
    return 2 * rows[0] * weights[-2] * weights[-1]


UNKNOWN: dict[str, Callable[..., int]] = {
    "aten._scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten._grouped_mm": _grouped,
    "transformers.grouped_mm_fallback": _grouped,
}


def _operation(name: str) -> Any:
    """Find an operation of torch by its name; None where this release has none."""
    home, _, own = name.partition(".")
    return getattr(getattr(torch.ops, home), own, None)
