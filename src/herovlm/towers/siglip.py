"""SigLIP's vision tower: no CLS token; a pooling head behind the last block asks all patches, where a model has one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from herovlm.errors import UnsupportedError
from herovlm.seams import hooks, parts
from herovlm.towers import recording
from herovlm.towers.base import Found, Tower
from herovlm.types import Needs


class Siglip(Tower):
    """SiglipVisionModel of transformers, and towers of the same blocks; the text tower stays with its checkpoint."""

    kind: ClassVar[str] = "siglip_vision_model"
    offers: ClassVar[frozenset[str]] = frozenset({"keys", "received", "probe", "hidden"})

    def lacks(self, config: Any) -> Mapping[str, str]:
        """Name the pooling head where a checkpoint was made without."""
        headed = getattr(config, "vision_use_head", True)
        return {} if headed else {"probe": "its checkpoint has no pooling head (vision_use_head=False)"}

    def blocks(self, vision: nn.Module) -> Sequence[Any]:
        """List its self-attention modules."""
        return recording.attention_blocks(vision)

    @contextmanager
    def reading(self, vision: nn.Module, needs: Needs, features: int) -> Iterator[Found]:
        """Record keys, what patches receive, and the rows of the pooling head."""
        wanted = {"received": needs.received, "keys": needs.keys}
        signals = {"received": recording.received_by_all, "keys": recording.keys_alone}
        with (
            recording.recorded(vision, wanted, signals=signals) as found,
            probed(vision, needs.probe) as rows,
        ):
            yield found
        found["probe"] = dict(enumerate(rows))


@contextmanager
def probed(vision: nn.Module, wanted: bool) -> Iterator[list[Tensor]]:
    """Record the attention that the pooling head pays, (T, H, N) float32, while the body runs the tower once.

    Raises:
        UnsupportedError: the head did not run.
    """
    rows: list[Tensor] = []
    with ExitStack() as hooked:
        if wanted:
            for head in parts.those(vision, _pools):
                handle = hooks.before(
                    head, lambda head, args: rows.append(probe_row(head, args[0])), hooks.this_thread()
                )
                hooked.callback(handle.remove)
        yield rows
    if wanted and not rows:
        raise UnsupportedError(
            "the attention of the pooling head was not recorded although the vision tower ran; hooks do not fire in a "
            "tower that torch.compile has compiled already: use the uncompiled model"
        )


def probe_row(head: Any, states: Tensor) -> Tensor:
    """Softmax rows of a pooling head's query over the patches that it is given: (T, N, C) -> (T, H, N) float32."""
    attention = head.attention
    weight, bias = (x.detach().chunk(3)[:2] for x in (attention.in_proj_weight, attention.in_proj_bias))
    query, keys = (linear(x.detach(), w, b) for x, w, b in zip((head.probe[0], states), weight, bias, strict=True))
    split = keys.view(*keys.shape[:2], attention.num_heads, -1)  # (T, N, H, C / H)
    logits = torch.einsum("hc,tnhc->thn", query.view(attention.num_heads, -1) * split.shape[-1] ** -0.5, split)
    return logits.softmax(-1, dtype=torch.float32)


def _pools(module: nn.Module) -> bool:
    return "probe" in module._parameters and isinstance(module._modules.get("attention"), nn.MultiheadAttention)
