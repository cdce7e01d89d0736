"""A method as one line of text, "hero(alpha=0.3, low_layers=(2, 3))", and back: `parse(str(m)) == m`."""

from __future__ import annotations

import ast
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from herovlm import registry
from herovlm.errors import MethodError

if TYPE_CHECKING:
    from herovlm.methods.base import Method

_LOOKS = 'a spec looks like "hero" or "hero(alpha=0.3, low_layers=(2, 3))"'


def parse(spec: str | Method) -> Method:
    """Turn a spec into a method; a method object is returned as it is.

    Nothing is evaluated: values are Python literals.

    Raises:
        MethodError: broken spec, unknown method or field, wrong type or range.
    """
    from herovlm.methods.base import Method

    if isinstance(spec, Method):
        return spec
    if not isinstance(spec, str):
        raise MethodError(f"method={spec!r} is neither a method object nor a spec; {_LOOKS}")
    name, values = _read(spec)
    kind = registry.method(name)
    known = [f.name for f in fields(kind) if f.init]
    for field in values:
        if field not in known:
            raise MethodError(f"method {name!r} has no field {field!r}{registry.did_you_mean(field, known)}")
    return kind(**values)


def _read(spec: str) -> tuple[str, dict[str, Any]]:
    """Split a spec into the name and the field values."""
    try:
        tree = ast.parse(spec.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if isinstance(tree, ast.Name):
        return tree.id, {}
    if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)):
        if len(spec) < 80 and spec.strip().replace("-", "_").isidentifier():
            registry.method(spec.strip())  # a name, if an odd one: say which names there are
        raise MethodError(f"{_short(spec)} cannot be read; {_LOOKS}")
    if tree.args or any(word.arg is None for word in tree.keywords):
        raise MethodError(f"{_short(spec)}: fields are given by name; {_LOOKS}")
    values = {}
    for word in tree.keywords:
        try:
            value = ast.literal_eval(word.value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            given = ast.unparse(word.value)
            raise MethodError(f"{word.arg}={given} is not a plain value; text needs quotes; {_LOOKS}") from None
        if word.arg in values:
            raise MethodError(f"{_short(spec)} gives {word.arg} twice")
        values[str(word.arg)] = tuple(value) if isinstance(value, list) else value
    return tree.func.id, values


def _short(spec: str) -> str:
    """Quote a spec, cut to a line."""
    return repr(spec if len(spec) <= 80 else spec[:77] + "...")
