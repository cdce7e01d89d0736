"""`herovlm methods`: what can choose the visual positions."""

from __future__ import annotations

import inspect
import pkgutil
from typing import Any

import typer

from herovlm.cli import options, show
from herovlm.cli.tidy import tidy
from herovlm.errors import MethodError

COLUMNS = ("method", "paper", "fidelity", "what it does")


@tidy
def methods(json: options.Json = False) -> None:
    """List the methods before the LLM and inside it, the paper of each and how faithful it is."""
    from herovlm import registry

    before = [_row(name) for name in registry.methods()]
    inside = [_about(name, pkgutil.resolve_name(where)) for name, where in getattr(registry, "INSIDE", {}).items()]
    if json:
        groups = (("before the LLM", before), ("inside the LLM", inside))
        show.as_json(
            [dict(zip(COLUMNS, row, strict=True)) | {"where": where} for where, rows in groups for row in rows]
        )
        return
    typer.echo("before the LLM\n")
    show.table(list(COLUMNS), before)
    if inside:
        typer.echo('\ninside the LLM, after a plus: "hero + fastv"\n')
        show.table(list(COLUMNS), inside)


def _row(name: str) -> list[str]:
    from herovlm import registry

    try:
        return _about(name, registry.method(name))
    except MethodError as error:  # another package's, broken: the others are listed all the same
        return [name, "", "", str(error)]


def _about(name: str, kind: Any) -> list[str]:
    return [name, kind.paper, kind.fidelity, (inspect.getdoc(kind) or "").split("\n")[0]]
