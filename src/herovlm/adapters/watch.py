"""Temporary hooks that read the CLS rows of a vision tower while it runs, and leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from herovlm.errors import ModelError, UnsupportedError


def attention_blocks(tower: nn.Module) -> list[nn.Module]:
    """List the self-attention modules of a tower, first block first: found by what they have, not by their path.

    Raises:
        ModelError: the tower has no blocks with separate q_proj and k_proj (CLIP has).
    """
    blocks = [m for m in tower.modules() if all(hasattr(m, part) for part in ("q_proj", "k_proj", "num_heads"))]
    if not blocks:
        raise ModelError(
            f"{type(tower).__name__} has no attention blocks with q_proj and k_proj; "
            "herovlm reads CLS attention from CLIP vision towers"
        )
    return blocks


@contextmanager
def cls_rows(tower: nn.Module, blocks: tuple[int, ...]) -> Iterator[dict[int, Tensor]]:
    """Record the softmax attention of the CLS query in the named blocks while the body runs the tower once.

    Costs O(H * N) memory a block and tile: the attention of the other queries is never formed, so sdpa and
    FlashAttention stay in use.  The softmax is over all N + 1 keys in float32; then the CLS key is dropped.

    Yields:
        A dict that fills while the tower runs: block -> (T, H, N) float32.

    Raises:
        UnsupportedError: a block was not recorded, e.g. because the tower was compiled before.
    """
    attention = attention_blocks(tower)
    rows: dict[int, Tensor] = {}
    handles: list[RemovableHandle] = []
    try:
        for block in blocks:
            handles += _watch(attention[block], block, rows)
        yield rows
    finally:
        for handle in handles:
            handle.remove()
    missing = sorted(set(blocks) - set(rows))
    if missing:
        raise UnsupportedError(
            f"the attention of blocks {missing} was not recorded although the vision tower ran; hooks do not fire in "
            "a tower that torch.compile has compiled already: use the uncompiled model, or compile only "
            "model.language_model"
        )


def _watch(attention: Any, block: int, rows: dict[int, Tensor]) -> list[RemovableHandle]:
    """Hook the query and key projections of one block and compute the row when both have been seen."""
    seen: dict[str, Tensor] = {}

    def both() -> None:
        if len(seen) == 2:
            rows[block] = _row(seen["q"], seen["k"], attention.num_heads)
            seen.clear()

    def on_query(_module: nn.Module, _args: Any, output: Tensor) -> None:
        seen["q"] = output[:, 0]  # (T, D): the CLS query
        both()

    def on_key(_module: nn.Module, _args: Any, output: Tensor) -> None:
        seen["k"] = output  # (T, 1 + N, D)
        both()

    return [
        attention.q_proj.register_forward_hook(on_query),
        attention.k_proj.register_forward_hook(on_key),
    ]


def _row(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Softmax row of the CLS query, CLS key dropped and not renormalised: (T, H, N)."""
    tiles, keys, channels = key.shape
    width = channels // heads
    q = query.detach().float().view(tiles, heads, width)
    k = key.detach().float().view(tiles, keys, heads, width)
    logits: Tensor = torch.einsum("thd,tnhd->thn", q, k) * width**-0.5
    return logits.softmax(-1)[..., 1:]
