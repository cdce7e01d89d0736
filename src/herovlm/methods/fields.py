"""What methods before the LLM and inside it share: a name, a paper, and fields that are checked and spelled.

Types are read from the annotations, ranges are named by the method.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from herovlm.errors import MethodError


@dataclass(frozen=True, kw_only=True)
class Described(ABC):
    """A frozen dataclass with a name and a paper; its fields are checked, and its text is a spec."""

    name: ClassVar[str]
    paper: ClassVar[str]  # "arXiv 2509.13067", or "baseline"
    fidelity: ClassVar[str]  # "golden parity", "from the paper", "reconstruction", "of this library" or "baseline"
    formula: ClassVar[str]  # the idea in one line of mathematics, plain text; its page prints it
    published: ClassVar[str] = ""  # what the authors' code does differently, one sentence or more; "" = nothing known
    moved: ClassVar[Mapping[str, str]] = {}  # fields of old -> what to write now

    def __post_init__(self) -> None:
        """Check the type of every field (subclasses add ranges and call this first)."""
        hints = hints_of(type(self))
        for f in fields(self):
            value = getattr(self, f.name)
            if not fits(value, hints[f.name]):
                raise MethodError(f"{self.name}({f.name}={value!r}): expected {spell(hints[f.name])}")

    def __str__(self) -> str:
        """Give the shortest spec that `herovlm.spec.parse` turns into an equal object."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        told = [f"{k}={v!r}" for k, v in shown.items() if repr(v) != repr(type(self).__dataclass_fields__[k].default)]
        return f"{self.name}({', '.join(told)})" if told else self.name


@cache
def hints_of(kind: type[Described]) -> dict[str, Any]:
    """Return the types of the fields of a class, read once: every call of `drop` makes a method."""
    return get_type_hints(kind)


def within(method: Described, low: float, high: float, *names: str) -> None:
    """Refuse fields outside [low, high]; None is left alone."""
    for name in names:
        value = getattr(method, name)
        if value is not None and not low <= value <= high:
            top = f" <= {high}" if math.isfinite(high) else ""
            raise MethodError(f"{method.name}({name}={value!r}): expected {low} <= {name}{top}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value has the annotated type (the few kinds of annotation that method fields use; no empty tuple)."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, arg) for arg in args)
    if origin is Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if origin is tuple:
        return isinstance(value, tuple) and len(value) > 0 and all(fits(item, args[0]) for item in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def spell(hint: Any) -> str:
    """Spell an annotation for a person: 'a or b', a list of choices, or a type name."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(spell(arg) for arg in args if not (arg is int and float in args))
    if origin is Literal:
        return " or ".join(repr(arg) for arg in args)
    if origin is tuple:
        return f"a tuple, (a,) or (a, b), each {spell(args[0])}"
    words: dict[Any, str] = {int: "a whole number", float: "a number", bool: "True or False", type(None): "None"}
    return words.get(hint) or str(hint.__name__)
