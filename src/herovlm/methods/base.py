"""The contract of a method: a frozen dataclass that says what it needs and what it keeps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from herovlm.errors import BudgetError, MethodError
from herovlm.types import Kept, Needs, Newlines, Seen

Layer = int | float  # a block counted from 0 (negative: from the end), or a relative depth in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to choose visual positions; subclasses are frozen dataclasses (`kw_only=True`), one paper a file.

    A method is a pure function of `Seen`: no state, no global random numbers, inputs untouched.  Callers use
    `needs(depth)` and `keep(seen, budget, newlines, share=...)`; authors write `needs` and `choose`.
    """

    newlines: Newlines | None = None  # which newline positions stay; None = the method's own rule ("touched")

    name: ClassVar[str]
    paper: ClassVar[str]  # "arXiv 2509.13067", or "baseline"
    fidelity: ClassVar[str]  # "golden parity", "from the paper", "reconstruction" or "baseline"

    def __post_init__(self) -> None:
        """Check the type of every field (subclasses add ranges and call this first)."""
        hints = get_type_hints(type(self))
        for f in fields(self):
            value = getattr(self, f.name)
            if not _fits(value, hints[f.name]):
                raise MethodError(f"{self.name}({f.name}={value!r}): expected {_spell(hints[f.name])}")

    @property
    def exact(self) -> bool:
        """Whether the positions kept always equal the budget (else the class says what it keeps instead)."""
        return True

    @abstractmethod
    def needs(self, depth: int) -> Needs:
        """Say what to record of a vision tower with `depth` blocks."""

    @abstractmethod
    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Choose `budget` positions, 0 < budget < seen.positions; newlines None: the method's own rule."""

    def keep(self, seen: Seen, budget: int, newlines: Newlines | None = None, *, share: float | None = None) -> Kept:
        """Choose exactly `budget` positions of one image, newlines included; all of them gives all of them.

        Args:
            seen: What the tower saw.
            budget: Number of positions, at least 1; `herovlm.types.budget_of` makes it from the user's `keep`.
            newlines: Overrides the method's own rule for the newline positions.
            share: The user's `keep` when it was a share (default budget / positions).  Only methods whose paper
                rounds for itself read it (`hero(variant="official")` is the case).

        Raises:
            BudgetError: the budget is too small for this method.
            MethodError: the method cannot work with what was seen.
        """
        if budget < 1:
            raise BudgetError(f"a budget of {budget} positions keeps nothing; give at least 1")
        if budget >= seen.positions:
            return Kept(seen.valid.clone(), seen.grid.sent.clone())
        return self.choose(seen, budget, newlines or self.newlines, budget / seen.positions if share is None else share)

    def __str__(self) -> str:
        """Give the shortest spec that `herovlm.spec.parse` turns into an equal object."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        told = [f"{k}={v!r}" for k, v in shown.items() if repr(v) != repr(type(self).__dataclass_fields__[k].default)]
        return f"{self.name}({', '.join(told)})" if told else self.name


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


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has the annotated type (the few kinds of annotation that method fields use)."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, args[0]) for item in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _spell(hint: Any) -> str:
    """Spell an annotation for a person: 'a or b', a list of choices, or a type name."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_spell(arg) for arg in args))
    if origin is Literal:
        return " or ".join(repr(arg) for arg in args)
    if origin is tuple:
        return f"a tuple of {_spell(args[0])}, such as (a,) or (a, b)"
    words = {int: "a whole number", float: "a number", bool: "True or False", type(None): "None"}
    return words.get(hint, hint.__name__)
