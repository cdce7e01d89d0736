"""`herovlm eval`: how well methods do on a task, at which budget."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from herovlm.cli import options, show
from herovlm.cli.tidy import tidy
from herovlm.errors import UsageError


@tidy
def evaluate(
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="'board', or a .yaml, a .jsonl or its folder; may be given several times.", show_default="board"
        ),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="As for ask; may be given again.", show_default="demo")
    ] = None,
    methods: Annotated[
        str, typer.Option(help="Methods, with commas between; 'all' is every one of them. 'full' is always there.")
    ] = "hero,random",
    keep: Annotated[
        str, typer.Option(help="Shares or numbers of visual positions, with commas between.")
    ] = "0.4,0.2,0.1,0.05",
    positions: Annotated[str, typer.Option(help="'compact', or 'original' numbers of what is kept.")] = "compact",
    metric: Annotated[str | None, typer.Option(help="How answers are scored, where the task does not say.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the task; its first by default.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many pictures, with all their questions.")] = None,
    seed: Annotated[int | None, typer.Option(help="Shuffle the pictures; by default they stay in order.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run; one that was interrupted goes on.")] = Path("runs/eval"),
    part: Annotated[str, typer.Option(help="Share of this process, such as 0/2 and 1/2 of two.")] = "0/1",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    batch: Annotated[
        int, typer.Option(min=1, help="Most positions that the LLM reads at once; less needs less memory.")
    ] = 16_384,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer, instead of the task's own.")
    ] = None,
    json: options.Json = False,
    clip: options.Clip = None,
    download: options.Download = False,
) -> None:
    """Score methods on a task at several budgets: records in a folder, one line a question, and a table of them."""
    share = part_of(part)
    amounts = options.keeps_of(keep)
    names = options.methods_of(methods)
    if positions not in ("compact", "original"):
        raise UsageError(f"--positions {positions!r} is unknown; use 'compact' or 'original'")
    from herovlm.eval import samples
    from herovlm.eval.task import load

    asked = [samples.asked(load(one, metric), split, limit=limit, seed=seed) for one in task or ["board"]]
    told = [one.task.name for one in asked]
    if len(set(told)) < len(told):
        raise UsageError(f"two tasks of one name: {', '.join(told)}; run them into different folders")
    with show.progress(1) as step:
        step("loading libraries")
        import torch

        from herovlm.cli.load import load as load_model
        from herovlm.cli.load import quiet
        from herovlm.eval.plan import configs
        from herovlm.eval.run import Run
        from herovlm.eval.summary import summarise
    if threads is not None:
        torch.set_num_threads(threads)
    models = {name: partial(load_model, name, clip=clip, download=download) for name in model or ["demo"]}
    plan = configs(names, amounts, positions == "original")
    run = Run(
        tasks=asked,
        configs=plan,
        models=models,
        limit=limit,
        seed=seed,
        max_new_tokens=max_new_tokens,
        batch=batch,
    )
    with show.progress(run.steps(*share)) as step, quiet():
        run.go(out, *share, step)
    summary = summarise([out])
    if json:
        show.as_json({**summary, "out": str(out)})
        return
    scores(summary)
    typer.echo(f"records: {out}")


def scores(summary: Mapping[str, Any]) -> None:
    """Print the tables of a summary, and what has to be said about them."""
    from herovlm.eval import tables

    for table in summary["tables"]:
        typer.echo(f"{table['task']} {table['split']}, {table['model']}\n")
        columns, rows = tables.grid(table)
        show.table(columns, rows)
        typer.echo("\n" + "\n".join(show.plain(line) for line in tables.notes(table)) + "\n")


def part_of(text: str) -> tuple[int, int]:
    """Read "0/2", the first of two parts.

    Raises:
        UsageError: it is not that.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or int(match[1]) >= int(match[2]):
        raise UsageError(f"--part {text!r} is no share; of two processes one has --part 0/2 and the other --part 1/2")
    return int(match[1]), int(match[2])
