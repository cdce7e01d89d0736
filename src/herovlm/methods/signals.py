"""Which signal a method scores patches by: what it needs for it, and what stands in where a tower cannot offer it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, TypeVar

from herovlm.errors import MethodError
from herovlm.methods.fields import Described
from herovlm.types import Needs, Signal

Own = TypeVar("Own", bound=Described)


def read(signal: Signal, blocks: tuple[int, ...], **others: Any) -> Needs:
    """Return what `ops.score.rows` needs of some blocks, and other needs; the pooling head stands behind all blocks."""
    if signal == "probe":
        return Needs(probe=True, **others)
    return Needs(received=blocks, **others) if signal == "received" else Needs(blocks, **others)


def instead_of(method: Own, missing: frozenset[str]) -> tuple[Own, ...]:
    """Return a method as it could be written where some of what it needs (names of `Needs` fields) is not offered.

    The best comes first.  Saliency weighs alone where there is no text space; another signal stands in for CLS rows.
    """
    known = {f.name for f in fields(method)}
    alone: dict[str, Any] = {"alpha": 1.0} if "relevance" in missing and {"alpha", "relevance"} <= known else {}
    if "signal" not in known or not missing & {"attention", "cls", "queries"}:
        return (replace(method, **alone),) if alone else ()
    found = []
    for signal in ("received", "probe"):
        changed = {**({} if getattr(method, "alpha", None) is None else alone), "signal": signal}
        with suppress(MethodError):  # the authors' variants read CLS rows and nothing else
            found.append(replace(method, **changed))
    return tuple(found)
