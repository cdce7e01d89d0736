"""Pixtral's vision tower: pictures of any size behind each other in one sequence, queries and keys that are rotated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.models.pixtral.modeling_pixtral import apply_rotary_pos_emb

from herovlm.seams import hooks
from herovlm.towers import recording
from herovlm.towers.base import Found, Tower
from herovlm.types import Needs


@dataclass(frozen=True)
class Pixtral(Tower):
    """PixtralVisionModel of transformers: no CLS token, no pooling head, no text tower.

    "received" is what a patch receives from the patches of its own picture: the mean of a picture is 1.  "keys" are
    rotated, as they meet queries.  Patches are
    given in groups, those of one position side by side, positions row by row; and "groups" is that order, for states.
    """

    merged: int = 1  # patches on a side of a position

    kind: ClassVar[str] = "pixtral"
    offers: ClassVar[frozenset[str]] = frozenset({"keys", "received", "hidden"})

    def blocks(self, vision: nn.Module) -> Sequence[Any]:
        """List its self-attention modules."""
        return recording.attention_blocks(vision)

    @contextmanager
    def reading(self, vision: nn.Module, needs: Needs, features: int) -> Iterator[Found]:
        """Record keys, attention received within each picture, and the order of patches in groups."""
        lengths: list[int] = []
        orders: list[Tensor] = []

        def begin(vision: Any, _args: tuple[Any, ...], given: Mapping[str, Any]) -> None:
            sizes, patch = given["image_sizes"].tolist(), vision.patch_size
            grids = [(high // patch, wide // patch) for high, wide in sizes]
            lengths[:] = [rows * columns for rows, columns in grids]
            orders[:] = [grouped(grids, self.merged)]

        def received(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
            alone = zip(torch.split(queries, lengths, 1), torch.split(keys, lengths, 1), strict=True)
            return torch.cat([recording.received_by_all(q, k, heads) for q, k in alone], 1)[:, order(keys)]

        def own(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
            return recording.keys_alone(queries, keys, heads)[:, order(keys)]

        def order(beside: Tensor) -> Tensor:
            return orders[0].to(beside.device)

        handle = hooks.before(vision, begin, hooks.this_thread(), keywords=True)
        try:
            wanted = {"received": needs.received, "keys": needs.keys}
            with recording.recorded(vision, wanted, rotated, {"received": received, "keys": own}) as found:
                yield found
        finally:
            handle.remove()
        found["groups"] = dict(enumerate(orders))


def grouped(grids: Sequence[tuple[int, int]], merged: int) -> Tensor:
    """Number the patches of pictures (rows, columns) behind each other, those of one position side by side: (n,)."""
    found, at = [], 0
    for rows, columns in grids:
        every = torch.arange(at, at + rows * columns).view(rows // merged, merged, columns // merged, merged)
        found.append(every.transpose(1, 2).flatten())
        at += rows * columns
    return torch.cat(found)


def rotated(attention: Any, read: recording.Read) -> Iterator[RemovableHandle]:
    """Watch queries and keys, (1, n, C) each, behind their rotation."""
    turn: list[tuple[Tensor, Tensor]] = []

    def entered(_module: nn.Module, _args: Any, given: Mapping[str, Any]) -> None:
        turn[:] = [given["position_embeddings"]]

    def turned(queries: Tensor, keys: Tensor) -> None:
        q, k = (x.detach().view(*x.shape[:2], attention.num_heads, -1).transpose(1, 2) for x in (queries, keys))
        q, k = apply_rotary_pos_emb(q, k, *turn[0], unsqueeze_dim=0)
        read(q.transpose(1, 2).flatten(2), k.transpose(1, 2).flatten(2))

    yield hooks.before(attention, entered, hooks.this_thread(), keywords=True)
    yield from recording.both(attention.q_proj, attention.k_proj, turned)
