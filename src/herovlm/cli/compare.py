"""`herovlm compare`: several methods and budgets side by side, on one picture and one question."""

from __future__ import annotations

from typing import Annotated

import typer

from herovlm.cli import options, show
from herovlm.cli.tidy import tidy


@tidy
def compare(
    picture: Annotated[str, typer.Argument(metavar="PICTURE", help="The picture.")],
    question: Annotated[str, typer.Argument(metavar='"QUESTION"', help="The question.")],
    methods: Annotated[str, typer.Option(help="Methods, with commas between.")] = "full,hero,uniform,random",
    keep: Annotated[str, typer.Option(help="Shares or numbers of visual positions, with commas between.")] = "0.2",
    model: options.Model = "demo",
    html: options.Html = None,
    json: options.Json = False,
    max_new_tokens: options.NewTokens = 64,
    clip: options.Clip = None,
    download: options.Download = False,
) -> None:
    """Ask the same question with several methods: one table, one page."""
    question = options.question_of(question)
    amounts = options.keeps_of(keep)
    target = options.target(html, [picture])
    pictures = options.open_pictures([picture])
    plan = options.plan_of(options.methods_of(methods), amounts)  # last: loads libraries
    with show.progress(2 + len(plan)) as step:
        step("loading libraries")
        from herovlm.cli import session

        with session.opened(model, clip, download, step) as ready:
            asked = ready.ask([pictures[0][1]], question, plan, max_new_tokens, step)
            report = ready.report(question, pictures, [asked])
            show.page(report, target)
    show.many(report, target, json)
