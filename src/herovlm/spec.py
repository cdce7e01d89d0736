"""A method as one line of text, "hero(alpha=0.3, low_layers=(2, 3))", and back: `parse(str(m)) == m`.

A plus sends what one method keeps before the LLM on to one inside it, "hero + fastv(layer=2, keep=0.5)", or to a
strategy: "full + contrast(amateur='hero')".
"""

from __future__ import annotations

import ast
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from herovlm import registry
from herovlm.errors import MethodError
from herovlm.methods.fields import fits, hints_of

if TYPE_CHECKING:
    from herovlm.methods.base import Method
    from herovlm.methods.inside.base import Chain, Inside
    from herovlm.strategy import Strategy

_LOOKS = 'a spec looks like "hero", "hero(alpha=0.3, low_layers=(2, 3))" or "hero + fastv"'


def parse(spec: str | Method | Inside | Strategy | Chain) -> Method | Chain:
    """Turn a spec into a method, or into a chain if something goes on behind a plus; objects are themselves.

    What goes on may stand alone: a method inside the LLM is then sent everything, a strategy has a method of its own.

    Nothing is evaluated: values are Python literals, or a choice as it is: hero(signal=received).

    Raises:
        MethodError: broken spec, unknown method or field, wrong type or range.
    """
    from herovlm.methods.base import Method
    from herovlm.methods.inside.base import Chain, Inside
    from herovlm.strategy import Strategy

    if isinstance(spec, (Method, Chain)):
        return spec
    if isinstance(spec, (Inside, Strategy)):
        return _alone(spec)
    if not isinstance(spec, str):
        raise MethodError(f"method={spec!r} is neither a method object nor a spec; {_LOOKS}")
    *before, last = [_made(*_read(part, spec)) for part in _parts(spec)]
    if not before:
        return last if isinstance(last, Method) else _alone(last)
    if len(before) > 1 or not isinstance(before[0], Method) or isinstance(last, Method):
        raise MethodError(
            f"{_short(spec)}: a plus stands between one method before the LLM and one inside it, such as "
            f"'hero + fastv'; those inside are {', '.join(registry.insides())}; or one strategy, such as "
            f"{', '.join(registry.strategies())}"
        )
    return Chain(before[0], last)


def _alone(then: Inside | Strategy) -> Chain:
    """Make a chain of what goes on, where nothing was put before it."""
    from herovlm.methods.base import Method
    from herovlm.methods.inside.base import Chain, Inside

    before = None if isinstance(then, Inside) else parse(then.first)
    return Chain(before if isinstance(before, Method) else None, then)


def split(text: str) -> list[str]:
    """Split "hero(alpha=0.3, t_cls=0.1), random" at the commas outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        else:
            depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def _made(name: str, values: dict[str, ast.expr]) -> Method | Inside | Strategy:
    """Make a method or a strategy of a name and its fields."""
    kind = _kind(name)
    known = [f.name for f in fields(kind) if f.init]
    for field in values:
        if field in kind.moved:
            raise MethodError(f"method {name!r} has no field {field!r} any more; write {kind.moved[field]}")
        if field not in known:
            raise MethodError(f"method {name!r} has no field {field!r}{registry.did_you_mean(field, known)}")
    hints = hints_of(kind)
    return kind(**{field: _value(field, value, hints[field]) for field, value in values.items()})


def _kind(name: str) -> type[Method | Inside | Strategy]:
    """Find the class of a name; ours go before those of other packages."""
    if name not in registry.METHODS:
        if name in registry.INSIDE or (name not in registry.STRATEGIES and name in registry.insides()):
            return registry.inside(name)
        if name in registry.STRATEGIES or (name not in registry.methods() and name in registry.strategies()):
            return registry.strategy(name)
    return registry.method(name)


def _value(field: str, given: ast.expr, hint: Any) -> Any:
    """Read the value of a field; the name of one of its choices needs no quotes."""
    if isinstance(given, ast.Name) and fits(given.id, hint):
        return given.id
    try:
        value = ast.literal_eval(given)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        told = ast.unparse(given)
        raise MethodError(f"{field}={told} is not a plain value; text needs quotes; {_LOOKS}") from None
    return tuple(value) if isinstance(value, list) else value


def _parts(spec: str) -> list[ast.expr | None]:
    """Split a spec at its pluses; None is what cannot be read."""
    try:
        tree: ast.expr = ast.parse(spec.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [None]
    parts = []
    while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add):
        parts.append(tree.right)
        tree = tree.left
    return [tree, *reversed(parts)]


def _read(tree: ast.expr | None, spec: str) -> tuple[str, dict[str, ast.expr]]:
    """Split a part of a spec into the name and the field values."""
    if isinstance(tree, ast.Name):
        return tree.id, {}
    if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)):
        if len(spec) < 80 and spec.strip().replace("-", "_").isidentifier():
            registry.method(spec.strip())  # a name, if an odd one: say which names there are
        raise MethodError(f"{_short(spec)} cannot be read; {_LOOKS}")
    if tree.args or any(word.arg is None for word in tree.keywords):
        raise MethodError(f"{_short(spec)}: fields are given by name; {_LOOKS}")
    values: dict[str, ast.expr] = {}
    for word in tree.keywords:
        if word.arg in values:
            raise MethodError(f"{_short(spec)} gives {word.arg} twice")
        values[str(word.arg)] = word.value
    return tree.func.id, values


def _short(spec: str) -> str:
    """Quote a spec, cut to a line."""
    return repr(spec if len(spec) <= 80 else spec[:77] + "...")
