"""The contract of a method: a frozen dataclass that says what it needs and what it keeps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from herovlm.errors import BudgetError, MethodError
from herovlm.methods.fields import Described
from herovlm.methods.signals import instead_of
from herovlm.types import Kept, Needs, Newlines, Seen

Layer = int | float  # a block counted from 0 (negative: from the end), or a relative depth in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Method(Described):
    """A way to choose visual positions; subclasses are frozen dataclasses (`kw_only=True`), one paper a file.

    A method is a pure function of `Seen`: no state, no global random numbers, inputs untouched.  Callers use
    `needs(depth)` and `keep(seen, budget, newlines, share=...)`; authors write `needs` and `choose`.
    """

    smaller: ClassVar[bool] = False  # whether the tower looks at a smaller picture, all of which is kept
    whole: ClassVar[bool] = False  # whether it is made of the overview, and nothing where there is none
    fixed: ClassVar[bool] = False  # whether `choose` is a fixed graph wherever it is exact: see `traceable`
    newlines: Newlines | None = None  # which newline positions stay; None = the method's own rule ("none")

    @property
    def exact(self) -> bool:
        """Whether the positions kept always equal the budget (else the class says what it keeps instead)."""
        return True

    @property
    def traceable(self) -> bool:
        """Whether `choose` is a fixed graph of tensor operations when the newline rule is "none".

        It reads nothing back from the device, its shapes and branches follow from `Seen.counts` and the budget alone,
        and what it keeps is exactly the budget: so it runs under torch.vmap for many images at once, and under
        torch.compile(fullgraph=True).  What any other method keeps is checked, for which the host has to wait.
        """
        return self.fixed and self.exact

    @abstractmethod
    def needs(self, depth: int) -> Needs:
        """Return what to record of a vision tower with `depth` blocks."""

    def without(self, signals: frozenset[str]) -> tuple[Method, ...]:
        """Return what could be written where some signals (names of `Needs` fields) are not offered, best first."""
        return instead_of(self, signals)

    @abstractmethod
    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Choose `budget` positions, 0 < budget < seen.positions; newlines None: the method's own rule."""

    def keep(self, seen: Seen, budget: int, newlines: Newlines | None = None, *, share: float | None = None) -> Kept:
        """Choose exactly `budget` positions of one image, newlines included; all of them gives all of them.

        Args:
            seen: What the tower saw.
            budget: Number of positions, at least 1; `herovlm.budget` makes it from what the user said.
            newlines: Overrides the method's own rule for the newline positions.
            share: The user's `keep` when it was a share (default budget / positions).  Only methods whose paper
                rounds for itself read it (`hero(variant="official")` is the case).

        Raises:
            BudgetError: the budget is below 1, or too small for this method.
            MethodError: the method cannot work with what was seen.
        """
        kept = self.unchecked(seen, budget, newlines, share)
        if kept.spent is None and not kept.mask.any():
            share = budget / seen.positions if share is None else share
            raise BudgetError(f"{self} keeps not one patch of {int(seen.valid.sum()):,} at keep={share:.4g}; keep more")
        return kept

    def unchecked(self, seen: Seen, budget: int, newlines: Newlines | None, share: float | None) -> Kept:
        """Choose as `keep` does, and leave to the caller to see whether anything was kept: the host need not wait."""
        if budget < 1:
            raise BudgetError(f"a budget of {budget} positions keeps nothing; give at least 1")
        if budget >= seen.positions:
            return Kept(seen.valid.clone(), seen.grid.sent.clone(), spent=seen.counts.positions)
        share = budget / seen.positions if share is None else share
        kept = self.choose(seen, budget, newlines or self.newlines, share)
        return replace(kept, spent=budget) if self.traceable else kept


def resolve(layers: Sequence[Layer], depth: int) -> tuple[int, ...]:
    """Turn layers (int: block, float: relative depth) into block indices of a tower with `depth` blocks."""
    if depth < 1:
        raise MethodError("how many blocks has the vision tower? Seen.depth is not set, so its layers cannot be found")
    blocks = []
    for layer in layers:
        block = round(layer * (depth - 1)) if isinstance(layer, float) else layer + depth * (layer < 0)
        if not 0 <= block < depth or (isinstance(layer, float) and not 0 <= layer <= 1):
            raise MethodError(
                f"layer {layer} does not exist in a vision tower of {depth} blocks; give a block 0..{depth - 1} as a "
                f"whole number, or a relative depth 0.0..1.0"
            )
        blocks.append(block)
    return tuple(dict.fromkeys(blocks))


def overview_of(method: Method, seen: Seen, instead: str) -> None:
    """Refuse what is made of the overview where there is none.

    Raises:
        MethodError: no tile shows the whole picture; says what to use instead.
    """
    if not seen.grid.overview:
        raise MethodError(f"{method} is made of the overview, and this model sees a picture without one; use {instead}")
