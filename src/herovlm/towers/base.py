"""The contract of a tower: what it offers, and how it is read while it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from torch import Tensor, nn

from herovlm.errors import UnsupportedError
from herovlm.types import Narrow, Needs

Found = Mapping[str, Mapping[int, Tensor]]  # signal -> block -> what was recorded


class Tower(ABC):
    """One kind of vision tower; towers keep no state, the module is handed to them.

    What it records is of the patches as they enter it, t sequences of n patches: "attention" (t, H, n), "received" and
    whatever else has one number a patch (t, n), "keys" (t, n, C) as they meet queries; "queries" (t, 2, C), query and
    key of the CLS token, of a tower with one; "probe" (t, H, n), of no block and so under any number, of one with a
    pooling head.
    A tower that reorders patches within (windows) puts them back; the family pools patches to positions of the LLM.
    """

    kind: ClassVar[str]  # config.vision_config.model_type
    offers: ClassVar[frozenset[str]]  # of `Needs.signals`: who needs anything else is refused

    def lacks(self, config: Any) -> Mapping[str, str]:
        """Return which of its offers a tower of some config has not: name -> why."""
        return {}

    @abstractmethod
    def blocks(self, vision: nn.Module) -> Sequence[Any]:
        """List the attention blocks of a tower, first block first.

        Raises:
            ModelError: it has none that can be read.
        """

    @abstractmethod
    def reading(self, vision: nn.Module, needs: Needs, features: int) -> AbstractContextManager[Found]:
        """Record what is needed while the body runs the tower once.

        Args:
            vision: the tower.
            needs: what to record.
            features: how many blocks the features stand behind; what nobody reads behind them may be left out.
        """

    def states(self, output: Any, found: Found) -> Tensor:
        """Return states behind the last block, not normalised, CLS first: (t, 1 + n, C), or CLS alone.

        Asked of towers that offer cls, relevance or affinity.
        """
        states: Tensor = output.last_hidden_state
        return states

    def narrowable(self, vision: nn.Module) -> None:
        """Check that only some of the patches can go on behind a middle block.

        Raises:
            UnsupportedError: they cannot.
        """
        raise UnsupportedError(f"narrow works in the blocks of transformers' own CLIP tower, and this is {self.kind}")

    def narrowed(
        self, vision: nn.Module, projector: nn.Module, cut: Narrow, features: Sequence[int], valid: Tensor
    ) -> AbstractContextManager[Any]:
        """Let a share of the valid patches (sum of T, N) go on behind a block while the body runs the tower once."""
        raise UnsupportedError(f"narrow works in the blocks of transformers' own CLIP tower, and this is {self.kind}")
