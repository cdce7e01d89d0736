"""What the fields of a method may hold: types are read from the annotations, ranges are named by the method."""

from __future__ import annotations

import math
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from herovlm.errors import MethodError

if TYPE_CHECKING:
    from herovlm.methods.base import Method


def within(method: Method, low: float, high: float, *names: str) -> None:
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
