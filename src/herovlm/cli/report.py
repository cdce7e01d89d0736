"""`herovlm report`: what the runs of `herovlm eval` say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from herovlm.cli import show
from herovlm.cli.eval import scores
from herovlm.cli.tidy import tidy
from herovlm.errors import UsageError


@tidy
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, made by eval.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Write page, curves, tables and summary into this folder."),
    ] = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Write the summary as JSON; '-' prints it.")
    ] = None,
) -> None:
    """Sum up runs: scores with intervals, and which differences are real.

    Where several runs have the same picture, method and keep, the first counts. Needs the extra 'eval'.
    """
    if json not in (None, "-") and not Path(str(json)).parent.is_dir():
        raise UsageError(f"there is no directory {Path(str(json)).parent}; make it first, or give another --json")
    with show.progress(3) as step:
        step("loading libraries")
        from herovlm.eval import page, summary
        from herovlm.extras import require

        if out is not None:
            require("matplotlib", extra="eval")
        step("summing up")
        found = summary.summarise(runs)
        step("writing")
        target = None if out is None else page.write(found, out)
    if json == "-":
        show.as_json(found)
        return
    if json is not None:
        try:
            Path(json).write_text(page.dumped(found), "utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {json} ({error.strerror}); give another --json") from None
    scores(found)
    if target is None:
        typer.secho("with --out FOLDER: a page with curves, tables for Markdown and spreadsheets", err=True, dim=True)
    else:
        typer.echo(f"page: {target}")
