"""InternViT: a CLS token in front of the patches; queries and keys may be normalised before they meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from herovlm.towers import recording
from herovlm.towers.base import Found, Tower
from herovlm.types import Needs


class InternVit(Tower):
    """InternVLVisionModel of transformers; there is no text tower that knows its space."""

    kind: ClassVar[str] = "internvl_vision"
    offers: ClassVar[frozenset[str]] = frozenset({"attention", "cls", "keys", "queries", "received", "hidden"})

    def blocks(self, vision: nn.Module) -> Sequence[Any]:
        """List its self-attention modules."""
        return recording.attention_blocks(vision)

    @contextmanager
    def reading(self, vision: nn.Module, needs: Needs, features: int) -> Iterator[Found]:
        """Record rows and keys behind their norms, and the states before the last norm, of towers that have one."""
        norm: Any = vision.layernorm
        with (
            recording.recorded(vision, recording.wanted(needs), normed) as found,
            recording.inputs_of(norm, needs.cls) as last,
        ):
            yield found
        found["states"] = dict(enumerate(last))

    def states(self, output: Any, found: Found) -> Tensor:
        """Return the states behind the last block."""
        return found["states"][0]


def normed(attention: Any, read: recording.Read) -> Iterator[RemovableHandle]:
    """Watch queries and keys behind q_norm and k_norm, which pass them on as they are where a model has none."""
    return recording.both(attention.q_norm, attention.k_norm, read)
