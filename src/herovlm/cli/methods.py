"""`herovlm methods`: what can choose the visual positions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import typer

from herovlm.cli import options, show
from herovlm.cli.tidy import tidy
from herovlm.errors import MethodError

if TYPE_CHECKING:
    from herovlm.methods.fields import Described

COLUMNS = ["method", "paper", "fidelity", "what it does"]


@tidy
def methods(json: options.Json = False) -> None:
    """List the methods before the LLM and inside it, and the strategies; the paper of each and how faithful it is."""
    from herovlm import registry

    before = [_row(name, registry.METHODS, registry.method) for name in registry.methods()]
    inside = [_row(name, registry.INSIDE, registry.inside) for name in registry.insides()]
    behind = [_row(name, registry.STRATEGIES, registry.strategy) for name in registry.strategies()]
    if json:
        groups = (("before the LLM", before), ("inside the LLM", inside), ("strategies", behind))
        show.as_json(
            [{"where": where, **dict(zip(COLUMNS, row, strict=True))} for where, rows in groups for row in rows]
        )
        return
    typer.echo("before the LLM\n")
    show.table(COLUMNS, before)
    typer.echo('\ninside the LLM, alone or after a plus: "hero + fastv"\n')
    show.table(COLUMNS, inside)
    typer.echo('\nstrategies, alone or after a plus: "full + contrast"\n')
    show.table(COLUMNS, behind)


def described() -> list[tuple[str, str, str]]:
    """List every method as it can be asked for ("hero + fastv"), what it does, and its arXiv number or "baseline"."""
    from herovlm import registry

    rows = [_row(name, registry.METHODS, registry.method) for name in registry.methods()]
    chains = {name.split(" + ")[1]: name for name in options.every() if " + " in name}
    rows += [[chains[name], *_row(name, registry.INSIDE, registry.inside)[1:]] for name in registry.insides()]
    return [(name, what, paper.removeprefix("arXiv ")) for name, paper, _, what in rows]


def _row(name: str, ours: Mapping[str, str], find: Callable[[str], type[Described]]) -> list[str]:
    """Describe a method: ours from its source, without importing it, another package's from its class."""
    from herovlm import registry

    if name in ours:
        told = registry.outline(ours[name])
        return [name, told["paper"], told["fidelity"], _first_sentence(told["doc"])]
    try:
        kind = find(name)
    except MethodError as error:  # another package's, broken: the others are listed all the same
        return [name, "", "", str(error)]
    return [name, kind.paper, kind.fidelity, summary(kind)]


def summary(kind: type[Described]) -> str:
    """First sentence about a method, without the number of its paper, which stands beside it."""
    return _first_sentence(inspect.getdoc(kind) or "")


def _first_sentence(doc: str) -> str:
    about = " ".join(doc.split("\n\n")[0].split())
    return re.sub(r" \((arXiv )?\d{4}\.\d{5}[^)]*\)", "", re.split(r"(?<=\.)\s", about)[0])
