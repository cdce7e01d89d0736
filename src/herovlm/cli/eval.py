"""`herovlm eval`: how well methods do on a task, at which budget."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from herovlm.cli import options, show
from herovlm.cli.tidy import some_failed, tidy
from herovlm.errors import UsageError
from herovlm.extras import require_all

Option = typer.Option
Tasks = Annotated[
    list[str] | None, Option(help="'board', a .yaml, a .jsonl or its folder; may be given again.", show_default="board")
]
Models = Annotated[list[str] | None, Option(help="As for ask; may be given again.", show_default="demo")]
Methods = Annotated[str, Option(help="Methods, commas between; 'all' is every one. 'full' is always there.")]
Keeps = Annotated[
    str | None, Option(help="Shares of the visual positions, commas between.", show_default="0.4,0.2,0.1,0.05")
]
Positions = Annotated[
    str | None,
    Option(help="'compact' numbers what is kept anew, 'original' does not.", show_default="the model family's own way"),
]
Split = Annotated[str | None, Option(help="Split of the task; its first by default.")]
Seed = Annotated[int | None, Option(help="Shuffle the pictures; by default they stay in order.")]
Out = Annotated[Path, Option(help="Folder of the run; one that was interrupted goes on.")]
Part = Annotated[str, Option(help="Share of this process: 0/2 and 1/2 fill a folder together.")]


@tidy
def evaluate(
    task: Tasks = None,
    model: Models = None,
    methods: Methods = "hero,random",
    keep: Keeps = None,
    tokens: options.SeveralTokens = None,
    positions: Positions = None,
    module: options.Module = None,
    metric: options.Metric = None,
    split: Split = None,
    limit: options.Limit = None,
    seed: Seed = None,
    out: Out = Path("runs/eval"),
    part: Part = "0/1",
    threads: options.Threads = None,
    batch: options.Batch = 16_384,
    max_new_tokens: options.TaskTokens = None,
    json: options.Json = False,
    clip: options.Clip = None,
    download: options.Download = False,
) -> None:
    """Score methods at several budgets: a record of every answer in a folder, and a table. Needs the extra 'eval'."""
    share, budgets = part_of(part), options.budgets_of(keep, tokens, "0.4,0.2,0.1,0.05")
    places = options.positions_of(positions)
    with show.progress(1) as step:
        step("loading libraries")
        require_all("scipy.stats", "rapidfuzz", extra="eval")
        from herovlm.cli import load
        from herovlm.eval import plan, run, samples, summary
        from herovlm.eval import task as tasks
    asked = [samples.asked(tasks.load(one, metric), split, limit=limit, seed=seed) for one in task or ["board"]]
    what = run.Run(
        tasks=asked,
        configs=plan.configs(options.methods_of(methods), budgets, positions=places),
        models={
            name: partial(load.load, name, clip=clip, download=download, module=module) for name in model or ["demo"]
        },
        limit=limit,
        seed=seed,
        max_new_tokens=max_new_tokens,
        batch=batch,
        threads=options.threads_of(threads),
    )
    if what.steps(*share) == 0:
        return typer.echo(f"part {part}: there are fewer pictures than parts, and none for this one")
    with show.progress(what.steps(*share)) as step, load.quiet():
        what.go(out, *share, step)
    found = summary.summarise([out])
    show.as_json({**found, "out": str(out)}) if json else scores(found, out)
    some_failed(failures(found), "; the same command tries that again, and keeps all answers that are there")


def scores(found: Mapping[str, Any], out: Path | None = None) -> None:
    """Print the tables of a summary, what has to be said about them, and where the records are."""
    from herovlm.eval import tables

    for table in found["tables"]:
        typer.echo(f"{tables.title(table)}\n")
        show.table(*tables.grid(table))
        typer.echo("\n" + "\n".join(show.plain(line) for line in tables.notes(table)) + "\n")
    if out is not None:
        typer.echo(f"records: {out}")


def failures(found: Mapping[str, Any]) -> list[str]:
    """List what failed in a summary, a line a cell; what a method refuses is no failure."""
    lines = []
    for table in found["tables"]:
        lines += [f"{name}: {lost['why']}" for name, lost in table["failed"].items()]
        lines += [f"{name}: {why}" for name, why in table["unusable"].items()]
    return lines


def part_of(text: str) -> tuple[int, int]:
    """Read "0/2", the first of two parts.

    Raises:
        UsageError: it is not that.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or int(match[1]) >= int(match[2]):
        raise UsageError(f"--part {text!r} is no share; of two processes one has --part 0/2 and the other --part 1/2")
    return int(match[1]), int(match[2])
