"""`herovlm app`: a page in the browser to play with dropping."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from herovlm.cli import options, show
from herovlm.cli.tidy import tidy
from herovlm.errors import UsageError


@tidy
def app(
    model: options.Model = "demo",
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 is any free one.")] = 7860,
    study: Annotated[Path | None, typer.Option(help="A page, such as that of 'herovlm study', to link to.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Longest time for one question.")] = 120,
    narrow: options.Narrow = None,
    max_new_tokens: options.NewTokens = 64,
    clip: options.Clip = None,
    download: options.Download = False,
) -> None:
    """Open a page where anyone can ask about a picture, with all visual positions and with a few of them.

    It shows the answers of up to four methods side by side, what each cost, and which patches were kept.  The page
    needs no network, serves this machine only (see --host), reads no file but the pictures that are put in, and forgets
    them at the end.  Ctrl-C stops it.  It needs the extra "app".
    """
    share, linked = options.narrow_of(narrow), _study(study)
    with ExitStack() as stack:
        from herovlm.app import serve
        from herovlm.app.folder import own_folder

        folder = stack.enter_context(own_folder())
        sock = stack.enter_context(serve.bound(host, port))
        with show.progress(3) as step:
            step("loading libraries")
            from herovlm.app import examples, page
            from herovlm.app.desk import Desk, Limits
            from herovlm.cli import methods, models, session

            limits = Limits(seconds=seconds, new_tokens=max_new_tokens)
            ready = stack.enter_context(session.opened(model, clip, download, step, share))
            step("drawing the page")
            ways = models.offered(ready.model)
            desk = Desk(replace(ready, limit=seconds), tuple(ways.values()), limits)
            about = [(ways[name], what, paper) for name, what, paper in methods.described() if name in ways]
            web = page.application(desk, examples.draw(folder), about, linked, folder)
        typer.echo(f"herovlm app: {serve.address(sock)} (Ctrl-C stops it)")
        serve.run(web, sock, folder, limits.bytes)


def _study(path: Path | None) -> Path | None:
    if path is not None and not (path.is_file() and path.suffix == ".html"):
        raise UsageError(f"--study {path} is not an HTML file; give the page that 'herovlm study' wrote")
    return None if path is None else path.absolute()
