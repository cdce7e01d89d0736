"""Qwen's vision towers: pictures of any size behind each other, fused qkv that is rotated, windows in some blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision
from transformers.vision_utils import get_vision_window_index

from herovlm.seams import hooks, parts
from herovlm.towers import recording
from herovlm.towers.base import Found, Tower
from herovlm.types import Needs

AT_ONCE = 2**24  # attention weights that are formed at a time, all heads together


class QwenVit(Tower):
    """The towers of Qwen2-VL to Qwen3.5 in transformers: no CLS token, no pooling head, no text tower.

    "received" is what a patch receives from the patches that it is attended by: all of its picture, or those of its
    window in a windowed block; either way the mean of a picture is 1.  "keys" are rotated, as they meet queries.
    "hidden" is of positions, not of patches: what the merger reads of a position, the states of its 2 x 2 patches in
    one.
    """

    kind: ClassVar[str] = "qwen_vit"
    offers: ClassVar[frozenset[str]] = frozenset({"keys", "received", "hidden"})

    def blocks(self, vision: nn.Module) -> Sequence[Any]:
        """List its self-attention modules."""
        return parts.those(vision, _attends)

    @contextmanager
    def reading(self, vision: nn.Module, needs: Needs, features: int) -> Iterator[Found]:
        """Record keys and attention received, back in the order in which patches enter; and that order, for states."""
        run, blocks = Run(vision), self.blocks(vision)
        signals = {"received": run.received, "keys": run.keys}
        wanted = {"received": needs.received, "keys": needs.keys}
        with ExitStack() as hooked:
            if needs.received or needs.keys or needs.hidden:
                hooked.callback(hooks.before(vision, run.begins, hooks.this_thread(), keywords=True).remove)
            yield hooked.enter_context(recording.recorded(vision, wanted, run.watch, signals, blocks)) | run.found


def _attends(module: nn.Module) -> bool:
    return "qkv" in module._modules and hasattr(module, "num_heads")


@dataclass
class Run:
    """One run of a tower: where its sequences begin, and how they are turned and ordered."""

    vision: Any
    found: dict[str, dict[int, Tensor]] = field(default_factory=lambda: {"back": {}})
    ends: Any = None  # cu_seqlens of the block that runs
    turn: Any = None  # cos and sin of its patches
    known: list[tuple[Tensor, list[int]]] = field(default_factory=list)  # cu_seqlens that were read, and their lengths

    def begins(self, _module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Find the way back from windows: which merged group of the tower's order each of the picture's is."""
        if not hasattr(self.vision, "window_size"):
            return
        tower, grid = self.vision, kwargs["grid_thw"] if "grid_thw" in kwargs else args[1]
        order, _ends = get_vision_window_index(
            grid,
            spatial_merge_size=tower.spatial_merge_size,
            window_size=tower.window_size,
            patch_size=tower.patch_size,
        )
        self.found["back"][0] = order.argsort()

    def watch(self, attention: Any, read: recording.Read) -> Iterator[RemovableHandle]:
        """Watch queries and keys (n, H, C / H) of a block behind their rotation."""
        mine = hooks.this_thread()

        def entered(_module: nn.Module, _args: Any, kwargs: Mapping[str, Any]) -> None:
            self.ends, self.turn = kwargs["cu_seqlens"], kwargs["position_embeddings"]

        def projected(_module: nn.Module, _args: Any, output: Tensor) -> None:
            split = output.detach().view(len(output), 3, attention.num_heads, -1)
            read(*apply_rotary_pos_emb_vision(split[:, 0], split[:, 1], *self.turn))

        yield hooks.before(attention, entered, mine, keywords=True)
        yield hooks.after(attention.qkv, projected, mine)

    def received(self, queries: Tensor, keys: Tensor, heads: int) -> Tensor:
        """Attention that each patch gets from all patches of its sequence, averaged over heads: (1, n)."""
        return self.entered(received(queries, keys, self.lengths()))

    def keys(self, queries: Tensor, keys: Tensor, heads: int) -> Tensor:
        """Rotated keys of all patches, heads not split: (1, n, C)."""
        return self.entered(keys.detach().float().flatten(1))

    def entered(self, values: Tensor) -> Tensor:
        """Put what has one value a patch, (n, ...), into the order in which patches entered: (1, n, ...)."""
        back = self.found["back"].get(0)
        if back is None:
            return values[None]
        return values.view(len(back), -1, *values.shape[1:])[back.to(values.device)].flatten(0, 1)[None]

    def lengths(self) -> list[int]:
        """Lengths of the sequences of the block that runs; blocks share them, and each is read once."""
        for ends, lengths in self.known:
            if ends is self.ends:
                return lengths
        self.known.append((self.ends, self.ends.diff().tolist()))
        return self.known[-1][1]


def received(queries: Tensor, keys: Tensor, lengths: Sequence[int]) -> Tensor:
    """Sum the attention that each key receives from the queries of its sequence, averaged over heads.

    Sequences of one length go together, some queries of each at a time: never all of an N x N map.

    Args:
        queries: (n, H, C / H) of all sequences behind each other, rotated.
        keys: the same.
        lengths: of the sequences.

    Returns:
        (n,) float32.
    """
    starts: dict[int, list[int]] = {}
    at = 0
    for length in lengths:
        starts.setdefault(length, []).append(at)
        at += length
    found = keys.new_zeros(len(keys), dtype=torch.float32)
    for length, firsts in starts.items():
        rows = (torch.tensor(firsts)[:, None] + torch.arange(length)).to(keys.device)  # (W, l)
        q, k = (x[rows].float().transpose(1, 2) for x in (queries, keys))  # (W, H, l, C / H)
        q, k = q * q.shape[-1] ** -0.5, k.transpose(2, 3)
        step = max(1, AT_ONCE // (q.shape[0] * q.shape[1] * length))
        found[rows] = sum((some @ k).softmax(-1).sum(2) for some in q.split(step, 2)).mean(1)
    return found
