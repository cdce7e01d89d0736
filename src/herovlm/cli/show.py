"""What a command prints: tables and JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from herovlm.viz.records import Answer, Asked, Report

Step = Callable[[str], None]
VERDICTS = {"right": "green", "wrong": "red"}
SPELT = str.maketrans({"▲": "+", "▼": "-", "○": "o", "→": "->", "–": "-", "×": "x", "±": "+-", "…": "..."})
WIDE = 120  # columns of a table that goes into a file or a pipe


@contextmanager
def progress(total: int) -> Iterator[Step]:
    """Show what is being done on stderr: a bar in a terminal, else a line every two seconds at most."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        last = time.monotonic()

        def say(text: str) -> None:
            nonlocal last
            if time.monotonic() - last > 2:
                last = time.monotonic()
                typer.echo(f"{text} ...", err=True)

        yield say
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=total)
        done = -1

        def step(text: str) -> None:
            nonlocal done
            done += 1
            bar.update(task, description=plain(text), completed=done)

        yield step


@contextmanager
def counting(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Show on stderr how much of a total is done: a bar in a terminal, else a line every two seconds at most.

    Yields:
        What is told how many more are done.
    """
    done = 0
    with progress(total) as step:
        if sys.stderr.isatty():
            step(f"0 of {total:,} {what}")

        def count(more: int) -> None:
            nonlocal done
            for _ in range(more):  # a bar counts its steps
                done += 1
                step(f"{done:,} of {total:,} {what}")

        yield count


def table(columns: list[str], rows: list[list[str]], *, right: tuple[str, ...] = ()) -> None:
    """Print a table; the columns named in `right` are set to the right, a column without a name is a verdict."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDE)
    grid: Table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in columns:
        grid.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        named = zip(columns, row, strict=True)
        grid.add_row(*(Text(plain(cell), style="" if name else VERDICTS.get(cell, "")) for name, cell in named))
    console.print(grid)


def page(report: Report, target: Path | None) -> None:
    """Write the page of a report, where one was asked for."""
    if target is not None:
        from herovlm.viz import page as pages

        pages.write(report, target)


def one(report: Report, target: Path | None, as_data: bool) -> None:
    """Print one answer: the words on stdout, what they cost on stderr."""
    from herovlm.viz import times, units

    (answer,) = report.asked[0].answers
    if as_data:
        as_json(report_dict(report, target))
        return
    typer.echo(plain(answer.text))
    share = units.share(answer.positions, answer.of)
    cost = (
        f"{times.FIRST} {units.seconds(answer.first_token)}, {times.WHOLE} {units.seconds(answer.seconds)}, "
        f"KV cache {units.size(answer.cache)}"
    )
    seen = f"{units.positions(answer.positions, answer.layers)} of {answer.of:,} visual positions ({share})"
    typer.secho(f"{answer.method}: {seen}, {cost}", err=True, dim=True)
    typer.secho(times.measured([answer]), err=True, dim=True)
    if answer.facts:
        told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in answer.facts.items())
        typer.secho(plain(told), err=True, dim=True)
    if target is not None:
        typer.secho(f"page: {target}", err=True, dim=True)


def many(report: Report, target: Path | None, as_data: bool, **more: Any) -> None:
    """Print a table of all answers, and where the page is."""
    if as_data:
        as_json(report_dict(report, target, **more))
        return
    answers(report.asked)
    if target is not None:
        typer.echo(f"\npage: {target}")


def answers(asked: tuple[Asked, ...]) -> None:
    """Print one line an answer, question, method, answer, right or wrong, and what it cost; then all beside full."""
    from herovlm.viz import times, units

    judged = any(answer.right is not None for one in asked for answer in one.answers)
    costs = ("visual positions", times.FIRST, times.WHOLE, "KV cache")
    columns = ["question"] * (len(asked) > 1) + ["method", "answer"] + [""] * judged + [*costs]
    rows = []
    for one in asked:
        for i, a in enumerate(one.answers):
            question = [one.question if i == 0 else ""] * (len(asked) > 1)
            verdict = ["" if a.right is None else "right" if a.right else "wrong"] * judged
            taken = [units.seconds(a.first_token), units.seconds(a.seconds)]
            cost = [units.positions(a.positions, a.layers), *taken, units.size(a.cache)]
            rows.append([*question, a.label, a.text, *verdict, *cost])
        for r in one.refused:
            why = f"{'FAILED' if r.failed else 'cannot'}: {r.why}"
            rows.append([""] * (len(asked) > 1) + [r.label, why, *[""] * judged, *"–" * len(costs)])
    table(columns, rows, right=costs)
    typer.echo()
    for line in (*times.compared(asked), times.measured([a for one in asked for a in one.answers])):
        typer.echo(plain(line))


def as_json(value: Any) -> None:
    """Print JSON, and nothing else, to stdout; signs that it cannot hold are escaped, so that it stays JSON."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    typer.echo(text if knows(text) else json.dumps(value, indent=2))


def answer_dict(answer: Answer) -> dict[str, Any]:
    """Give one answer as JSON knows it; times in seconds, sizes in bytes."""
    return {
        "method": answer.method,
        "keep": answer.keep,
        "answer": answer.text,
        "right": answer.right,
        "positions": answer.positions,
        "of": answer.of,
        "layers": list(answer.layers) or None,
        "vision_seconds": answer.vision,
        "choosing_seconds": answer.choosing,
        "prefill_seconds": answer.prefill,
        "first_token_seconds": answer.first_token,
        "answer_seconds": answer.seconds,
        "rounds": answer.rounds,
        "cache_bytes": answer.cache,
        **({"facts": dict(answer.facts)} if answer.facts else {}),
        "pictures": [
            {
                "tiles": list(seen.grid.tiles),
                "granted": kept.granted.tolist(),
                "newlines": int(kept.newlines.sum()),
                "positions": kept.positions,
                "of": seen.positions,
            }
            for seen, kept in answer.views
        ],
    }


def report_dict(report: Report, target: Path | None, **more: Any) -> dict[str, Any]:
    """Give a whole report as JSON knows it."""
    questions = [
        {
            "question": x.question,
            "kind": x.kind,
            "truth": x.truth,
            "answers": [answer_dict(a) for a in x.answers],
            "refused": [{"method": r.method, "keep": r.keep, "error": r.why, "failed": r.failed} for r in x.refused],
        }
        for x in report.asked
    ]
    return {
        "model": report.model,
        "pictures": [{"name": name, "size": list(picture.size)} for name, picture in report.pictures],
        "questions": questions,
        "html": None if target is None else str(target),
        **more,
    }


def plain(text: str) -> str:
    """Drop what a terminal would obey, control characters and escapes, and spell signs that it does not know."""
    text = "".join(sign if sign.isprintable() else " " for sign in text)
    return text if knows(text) else text.translate(SPELT)


def knows(text: str) -> bool:
    """Whether stdout can hold all signs of a text: on Windows, or in a pipe, it may be no UTF-8."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
