"""The command `herovlm`: one file a command, nothing heavy before a command runs."""

from __future__ import annotations

from typing import Annotated

import typer

import herovlm
from herovlm.cli import ask, batch, bench, calibrate, compare, demo, eval, icl, methods, models, report, serve, study
from herovlm.cli.app import app as page

app = typer.Typer(
    name="herovlm",
    help="Ask a vision-language model about a picture with a fifth of the visual tokens, and see what was kept.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo.demo, ask.ask, compare.compare, report.report, bench.bench, methods.methods, models.models):
    app.command()(command)
app.command("app")(page)
app.command("eval")(eval.evaluate)
app.command()(study.study)
app.command()(batch.batch)
app.command(context_settings=serve.PASSES_ON)(serve.serve)
app.command()(calibrate.calibrate)
app.command()(icl.icl)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"herovlm {herovlm.__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Ask a vision-language model about a picture with a fifth of the visual tokens, and see what was kept."""


def run() -> None:
    """Run the command line; the entry point of the script `herovlm`."""
    app()
