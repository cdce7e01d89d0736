"""`herovlm models`: which models can be used."""

from __future__ import annotations

from types import SimpleNamespace

from herovlm import registry
from herovlm.cli import options, show
from herovlm.cli.load import DEMO
from herovlm.cli.tidy import tidy


@tidy
def models(json: options.Json = False) -> None:
    """List the model families, and the demo model that comes with the package."""
    rows = [["LLaVA-NeXT", "llava_next", f"the demo model in this package: --model {DEMO}"]]
    for kind in registry.families():
        rows.append([_family(kind), kind, "any checkpoint of it: --model FOLDER or the name on the hub"])
    columns = ["family", "model_type", "use"]
    if json:
        show.as_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        show.table(columns, rows)


def _family(kind: str) -> str:
    """Name a family: ours from its source, without importing it, another package's from its class."""
    if kind in registry.FAMILIES:
        return registry.outline(registry.FAMILIES[kind])["name"]
    return registry.family(SimpleNamespace(config=SimpleNamespace(model_type=kind))).name
