"""`herovlm methods`: what can choose the visual positions."""

from __future__ import annotations

import inspect

from herovlm.cli import options, show
from herovlm.cli.tidy import tidy


@tidy
def methods(json: options.Json = False) -> None:
    """List the methods, the paper of each and how faithful it is."""
    from herovlm import registry

    rows = []
    for name in registry.methods():
        kind = registry.method(name)
        rows.append([name, kind.paper, kind.fidelity, (inspect.getdoc(kind) or "").split("\n")[0]])
    columns = ["method", "paper", "fidelity", "what it does"]
    if json:
        show.as_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        show.table(columns, rows)
