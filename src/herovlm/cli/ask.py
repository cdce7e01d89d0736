"""`herovlm ask`: the main job, on any picture."""

from __future__ import annotations

from typing import Annotated

import typer

from herovlm.cli import options, show
from herovlm.cli.tidy import tidy


@tidy
def ask(
    words: Annotated[list[str], typer.Argument(metavar='PICTURE... "QUESTION"', help="Pictures, then the question.")],
    model: options.Model = "demo",
    method: Annotated[
        str | None, typer.Option(help="Method, such as hero or 'hero(alpha=0.3)'.", show_default="hero")
    ] = None,
    keep: options.Keep = None,
    tokens: options.Tokens = None,
    decoding: options.Decoding = None,
    narrow: options.Narrow = None,
    module: options.Module = None,
    html: options.Html = None,
    json: options.JsonAnswers = False,
    max_new_tokens: options.NewTokens = 64,
    clip: options.Clip = None,
    download: options.Download = False,
) -> None:
    """Ask a question about one or more pictures with a share of their visual positions.

    --keep and --tokens take one value for all pictures, or one a picture with commas between: --keep 1.0,0.1.
    """
    paths, question = options.pictures_and_question(words)
    budget, share = options.budget_of(keep, tokens), options.narrow_of(narrow)
    target = options.target(html, paths)
    pictures = options.open_pictures(paths)
    plan = options.plan_of([options.way_of(method, decoding)], [budget])  # last: loads libraries
    with show.progress(3) as step:
        step("loading libraries")
        from herovlm.cli import session

        with session.opened(model, clip, download, step, share, module) as ready:
            asked = ready.ask([picture for _, picture in pictures], question, plan, max_new_tokens, step)
            report = ready.report(question, pictures, [asked])
            show.page(report, target)
    show.one(report, target, json)
