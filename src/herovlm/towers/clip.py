"""CLIP's vision tower: a CLS token in front of the patches, and a text tower that knows the same space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

from torch import Tensor, nn

from herovlm.towers import narrow, recording, shortcut
from herovlm.towers.base import Found, Tower
from herovlm.types import Narrow, Needs


class Clip(Tower):
    """CLIPVisionModel of transformers."""

    kind: ClassVar[str] = "clip_vision_model"
    offers: ClassVar[frozenset[str]] = Needs.ALL - {"probe"}  # no pooling head: its CLS token is one

    def blocks(self, vision: nn.Module) -> Sequence[Any]:
        """List its self-attention modules."""
        return recording.attention_blocks(vision)

    @contextmanager
    def reading(self, vision: nn.Module, needs: Needs, features: int) -> Iterator[Found]:
        """Record rows, keys and states, and carry the CLS token alone where nobody reads the patches."""
        with (
            recording.recorded(vision, recording.wanted(needs)) as found,
            recording.group_means(shortcut.clip_layers(vision), needs.layers) as found["layers"],
            shortcut.taken(vision, features, needs),
        ):
            yield found

    def narrowable(self, vision: nn.Module) -> None:
        """Check that the blocks are exactly CLIP's."""
        narrow.layers_of(vision)

    def narrowed(
        self, vision: nn.Module, projector: nn.Module, cut: Narrow, features: Sequence[int], valid: Tensor
    ) -> AbstractContextManager[Any]:
        """Narrow it by its own CLS rows."""
        return narrow.applied(vision, projector, cut, tuple(features), valid)
