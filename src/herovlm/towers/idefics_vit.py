"""The vision tower of Idefics3 and SmolVLM: SigLIP without its pooling head, for tiles that may be padded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor, nn

from herovlm.seams import hooks
from herovlm.towers import recording
from herovlm.towers.base import Found, Tower
from herovlm.types import Needs


class IdeficsVit(Tower):
    """Idefics3VisionTransformer and SmolVLMVisionTransformer of transformers: no CLS token, no head, no text tower."""

    kind: ClassVar[str] = "idefics3_vision"
    offers: ClassVar[frozenset[str]] = frozenset({"keys", "received", "hidden"})

    def blocks(self, vision: nn.Module) -> Sequence[Any]:
        """List its self-attention modules."""
        return recording.attention_blocks(vision)

    @contextmanager
    def reading(self, vision: nn.Module, needs: Needs, features: int) -> Iterator[Found]:
        """Record keys, and the attention that patches receive; padding neither pays nor gets any."""
        real: list[Tensor] = []

        def begin(_vision: nn.Module, _args: tuple[Any, ...], given: Mapping[str, Any]) -> None:
            real.append(given["patch_attention_mask"].flatten(1))

        def received(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
            return recording.received_by_all(queries, keys, heads, real[-1])

        handle = hooks.before(vision, begin, hooks.this_thread(), keywords=True)
        try:
            wanted = {"received": needs.received, "keys": needs.keys}
            signals = {"received": received, "keys": recording.keys_alone}
            with recording.recorded(vision, wanted, signals=signals) as found:
                yield found
        finally:
            handle.remove()
