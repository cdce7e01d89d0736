"""`herovlm demo`: a picture, a few questions, the full model and a fifth of it; no arguments needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from herovlm.cli import options, show
from herovlm.cli.tidy import tidy

PLAN: list[tuple[str, float]] = [("full", 1.0), ("hero", 0.2)]


@tidy
def demo(
    html: Annotated[Path, typer.Option(help="Where to write the page.")] = Path("herovlm-demo.html"),
    seed: Annotated[int, typer.Option(help="Which picture; those below 1000 were never trained on.")] = 0,
    json: options.JsonAnswers = False,
    max_new_tokens: options.NewTokens = 16,
) -> None:
    """Ask the shipped model about a picture, with all visual positions and with a fifth of them."""
    target = options.target(html)
    from herovlm.cli.judge import judged
    from herovlm.demo import scenes

    scene = scenes.make(seed)
    with show.progress(2 + len(PLAN) * len(scene.questions)) as step:
        step("loading libraries")
        from herovlm.cli import session

        with session.opened("demo", None, False, step) as ready:
            found = []
            for question in scene.questions:
                asked = ready.ask([scene.image], question.text, PLAN, max_new_tokens, step)
                found.append(judged(asked, question.answer, question.kind))
            title = f"{len(found)} questions about one picture: all of it, and a fifth of it"
            report = ready.report(title, ((f"{scene.kind}, seed {seed}", scene.image),), found)
            show.page(report, target)
    show.many(report, target, json, seed=seed)
