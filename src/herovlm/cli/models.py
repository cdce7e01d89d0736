"""`herovlm models`: which models can be used, and with which methods."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Annotated, Any

import typer

from herovlm import registry
from herovlm.cli import options, show
from herovlm.cli.load import DEMO
from herovlm.cli.tidy import tidy

COLUMNS = ["family", "model_type", "for example"]
SPELLED = {  # fields of `Needs`, for a person
    "attention": "CLS rows",
    "cls": "CLS state",
    "probe": "rows of the pooling head",
    "relevance": "question against tiles",
    "affinity": "question against patches",
    "dots": "question against patches, not normalised",
    "keys": "keys",
    "queries": "CLS query",
    "received": "attention received",
    "hidden": "states before the projector",
    "layers": "mean states of its layers",
}
Kind = Annotated[
    str | None, typer.Argument(metavar="[MODEL_TYPE]", help="One family in full, by its config.model_type.")
]


@tidy
def models(kind: Kind = None, json: options.Json = False) -> None:
    """List the model families with an example of each; or, with MODEL_TYPE, what one offers and what works on it."""
    if kind is not None:
        one = about(kind)
        show.as_json(one) if json else show.table(["", kind], [[name, _line(value)] for name, value in one.items()])
        return
    rows = [["LLaVA-NeXT", "llava_next", f"the demo model in this package: --model {DEMO}"]]
    rows += [[_said(one, "name"), one, _said(one, "example") or "any checkpoint of it"] for one in registry.families()]
    if json:
        show.as_json([dict(zip(COLUMNS, row, strict=True)) for row in rows])
        return
    show.table(COLUMNS, rows)
    typer.echo(
        "\nAny checkpoint of a family: --model FOLDER, or its name on the hub.  One in full: herovlm models TYPE"
    )


def about(kind: str) -> dict[str, Any]:
    """Describe a family: what its towers offer, which methods work as they are, what to write for others, what not.

    Raises:
        ModelError: no such family.
    """
    from herovlm.settle import DEPTH, written

    family = registry.family(SimpleNamespace(config=SimpleNamespace(model_type=kind)))
    offers = frozenset(signal for tower in family.towers for signal in tower.offers) - family.withheld
    ways, refused = written(family, offers), {}
    for name in registry.methods():
        if name not in ways:
            method = registry.method(name)()
            missing = method.needs(DEPTH).signals - offers
            why = "is made of the overview" if method.whole and not family.overviews else "makes pictures smaller"
            refused[name] = "needs " + ", ".join(_spelled(missing)) if missing else why
    return {
        "family": family.name,
        "model_type": kind,
        "for example": family.example,
        "sees through": [tower.kind for tower in family.towers],
        "offers": _spelled(offers),
        "positions": list(family.positions),
        "methods": [name for name, way in ways.items() if name == way],
        "written as": {name: way for name, way in ways.items() if name != way},
        "refused": refused,
        "tested with transformers": list(registry.TESTED),
    }


def offered(model: Any) -> dict[str, str]:
    """Return how each of `options.every` that works on a loaded model is written there."""
    from herovlm import api
    from herovlm.errors import HeroError
    from herovlm.settle import written

    family = registry.family(model)
    ways, found = written(family, family.offers(model)), {}
    for name in options.every()[1:]:
        first, *rest = name.split(" + ")
        way = " + ".join([ways.get(first, ""), *rest])
        with suppress(HeroError):  # of its language model
            if first in ways and (not rest or api.stage_of(model, api.Request.of(way))):
                found[name] = way
    return found


def _spelled(signals: frozenset[str]) -> list[str]:
    return [words for name, words in SPELLED.items() if name in signals] + sorted(signals - SPELLED.keys())


def _line(value: Any) -> str:
    """Put a value on a line."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {one}" for name, one in value.items()) or "none"
    return value if isinstance(value, str) else ", ".join(value) or "none"


def _said(kind: str, what: str) -> str:
    """Return what a family says of itself: ours from its source, unimported; others' from their class."""
    if kind in registry.FAMILIES:
        return registry.outline(registry.FAMILIES[kind]).get(what, "")
    family = registry.family(SimpleNamespace(config=SimpleNamespace(model_type=kind)))
    return str(getattr(family, what))
