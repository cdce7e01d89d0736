"""`herovlm compare`: several methods and budgets side by side, on one picture and one question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from herovlm.cli import options, show
from herovlm.cli.tidy import some_failed, tidy
from herovlm.errors import HeroError, reason

if TYPE_CHECKING:
    from PIL import Image

    from herovlm.budget import Budget
    from herovlm.cli.session import Session
    from herovlm.viz.records import Asked


@tidy
def compare(
    picture: Annotated[str, typer.Argument(metavar="PICTURE", help="The picture.")],
    question: Annotated[str, typer.Argument(metavar='"QUESTION"', help="The question.")],
    methods: Annotated[
        str, typer.Option(help="Methods, with commas between; 'all' is every one of them.")
    ] = "full,hero,uniform,random",
    keep: Annotated[
        str | None, typer.Option(help="Shares of the positions or auto, with commas between.", show_default="0.2")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Instead or as well: numbers of positions, such as 64,128.")
    ] = None,
    answer: Annotated[
        str | None, typer.Option(help="The right answer: who says these words, among others, is right.")
    ] = None,
    model: options.Model = "demo",
    narrow: options.Narrow = None,
    module: options.Module = None,
    html: options.Html = None,
    json: options.JsonAnswers = False,
    max_new_tokens: options.NewTokens = 64,
    clip: options.Clip = None,
    download: options.Download = False,
) -> None:
    """Ask the same question with several methods: one table, one page.

    A method that cannot answer (a budget too small for it, say) has a row that says why.
    Where one fails by an error that it does not raise on purpose, the exit status is 3.
    """
    question = options.question_of(question)
    budgets, share = options.budgets_of(keep, tokens, "0.2"), options.narrow_of(narrow)
    truth = options.answer_of(answer)
    target = options.target(html, [picture])
    pictures = options.open_pictures([picture])
    plan = options.plan_of(options.methods_of(methods), budgets)  # last: loads libraries
    with show.progress(2 + len(plan)) as step:
        step("loading libraries")
        from herovlm.cli import judge, session

        with session.opened(model, clip, download, step, share, module) as ready:
            asked = attempt(ready, pictures[0][1], question, plan, max_new_tokens, step)
            asked = asked if truth is None else judge.judged(asked, truth)
            report = ready.report(question, pictures, [asked])
            show.page(report, target)
    show.many(report, target, json)
    some_failed([f"{one.label}: {one.why}" for one in asked.refused if one.failed])


def attempt(
    ready: Session,
    picture: Image.Image,
    question: str,
    plan: Sequence[tuple[str, Budget]],
    new_tokens: int,
    step: show.Step,
) -> Asked:
    """Answer by every (method, budget) of a plan, and note which of them cannot.

    Raises:
        Exception: none of them can; the error of the first.
    """
    from herovlm.budget import told
    from herovlm.viz.records import Asked, Refused

    done, answers, refused, errors = [], [], [], []
    for method, budget in plan:
        step(f"{method}: {question[:60]}")
        try:
            answers.append(ready.answer([picture], question, method, budget, new_tokens))
            done.append((method, budget))
        except Exception as error:  # whatever it is, the other methods answer
            errors.append(error)
            refused.append(Refused(method, told(budget), reason(error), failed=not isinstance(error, HeroError)))
    if not answers:
        raise errors[0]
    return Asked(question, ready.timed([picture], question, done, answers), refused=tuple(refused))
