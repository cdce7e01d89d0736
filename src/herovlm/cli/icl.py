"""`herovlm icl`: what a person feels, by similar persons shown before, with few visual positions for those."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from herovlm.cli import options, show
from herovlm.cli.tidy import some_failed, tidy
from herovlm.errors import BudgetError, UsageError
from herovlm.extras import require_all

Option = typer.Option
MOST = 32  # the authors keep so many examples
Data = Annotated[str, Option(help="'figures', which is drawn, or a folder with pool.jsonl, test.jsonl (or .csv both).")]
Labels = Annotated[
    str | None, Option(help="emotic, heco, or a file of labels.", show_default="labels.txt of the folder")
]
Shots = Annotated[int, Option(min=0, max=MOST, help="Similar persons of the pool that are shown.")]
KeepExamples = Annotated[
    list[str] | None,
    Option(
        help="Share of their visual positions: one, or several by rank with commas between, the last going on; may be "
        "given again.  1.0 is always there.",
        show_default="0.1",
    ),
]
KeepQuery = Annotated[str, Option(help="Share of the picture that is asked about.")]
Generation = Annotated[str, Option(help="greedy, or authors: three beams that draw (temperature 0.2, top-p 0.9).")]
RetrieverName = Annotated[
    str | None, Option(help="Folder or name of the CLIP that finds examples.", show_default="the model's own")
]
Limit = Annotated[int | None, Option(min=1, help="Only so many who are asked about.")]
Pool = Annotated[int | None, Option(min=1, help="Only so many who can be shown.")]
Out = Annotated[Path, Option(help="Folder of the run; one that was interrupted goes on.")]
NewTokens = Annotated[int | None, Option(min=1, help="Longest answer.", show_default="128; authors 512")]


@tidy
def icl(
    data: Data = "figures",
    labels: Labels = None,
    model: options.Model = "demo",
    shots: Shots = 6,
    method: Annotated[str, Option(help="Method, such as hero.")] = "hero",
    keep_examples: KeepExamples = None,
    keep_query: KeepQuery = "1.0",
    generation: Generation = "greedy",
    seed: Annotated[int, Option(help="Of the draws of --generation authors.")] = 0,
    retriever: RetrieverName = None,
    limit: Limit = None,
    pool: Pool = None,
    out: Out = Path("runs/icl"),
    threads: options.Threads = None,
    max_new_tokens: NewTokens = None,
    json: options.Json = False,
    clip: options.Clip = None,
    download: options.Download = False,
) -> None:
    """Ask what persons feel, similar persons and their labels shown before, with few positions. Needs 'eval'."""
    method, threads, query = options.method_of(method), options.threads_of(threads), share_of(keep_query)
    budgets = [shares_of(text, "--keep-examples") for text in keep_examples or ["0.1"]]
    with show.progress(1) as step:
        step("loading libraries")
        require_all("scipy.stats", "sklearn.metrics", extra="eval")
        import torch

        from herovlm.cli import load
        from herovlm.eval.icl import data as persons
        from herovlm.eval.icl import retrieve, run, summary
    if generation not in run.GENERATION:
        raise UsageError(f"--generation {generation!r} is unknown; use {' or '.join(run.GENERATION)}")
    torch.set_num_threads(threads or torch.get_num_threads())
    people = persons.load(data, labels, limit, pool)
    configs = list(dict.fromkeys([run.FULL, *(run.Config(method, budget, query) for budget in budgets)]))
    with show.progress(len(people.test) + len(people.pool) // 16 + 2) as step, load.quiet():
        step(f"loading the model {model}")
        ready, processor = load.load(model, clip=clip, download=download)
        eye = retrieve.find(retriever, ready, processor, download=download)
        parts: dict[str, Any] = {"model": ready, "processor": processor, "retriever": eye}
        how: dict[str, Any] = {"shots": shots, "generation": generation, "max_new_tokens": max_new_tokens}
        what = run.Run(people=people, name=model, configs=configs, seed=seed, **parts, **how)
        what.go(out, step)
    found = summary.summarise(out)
    show.as_json({**found, "out": str(out)}) if json else _print(found, out)
    unusable = [f"{name}: {why}" for name, why in found["unusable"].items()]
    some_failed(unusable, "; the same command tries that again, and keeps all answers that are there")


def shares_of(text: str, option: str) -> tuple[float, ...]:
    """Read shares by rank: "0.1", or "0.4,0.1".

    Raises:
        BudgetError: one is not in (0, 1].
    """
    from herovlm import budget

    try:
        each = budget.shares_of(text).each
    except BudgetError as error:
        raise BudgetError(f"{option} {text}: {error}") from None
    return each if isinstance(each, tuple) else (each,)


def share_of(text: str) -> float:
    """Read the one share of the picture that is asked about.

    Raises:
        BudgetError: there are several, or it is not in (0, 1].
    """
    share, *more = shares_of(text, "--keep-query")
    if more:
        raise BudgetError(f"--keep-query {text} has several values, and one picture is asked about; give one")
    return share


def _print(found: Mapping[str, Any], out: Path) -> None:
    """Print the table of a run, and what has to be said about it."""
    from herovlm import demo
    from herovlm.cli import load
    from herovlm.viz import units

    columns = [
        "examples keep",
        "method",
        "visual positions",
        "first token",
        "named a label",
        "accuracy",
        "mAP",
        "as full",
    ]
    rows = [
        [
            row["examples"],
            row["method"],
            f"{row['positions']:,.0f} of {row['of']:,.0f}",
            units.seconds(row["seconds"]["look"] + row["seconds"]["select"] + row["seconds"]["first"]),
            f"{row['named']:.0%}",
            _accuracy(row),
            f"{row['map']:.3f}",
            "–" if row["same_as_full"] is None else f"{row['same_as_full']:.0%}",
        ]
        for row in found["rows"]
    ]
    if vote := found["vote"]:
        rows.append([f"vote of {found['shots']}", "–", "–", "–", "–", _accuracy(vote), f"{vote['map']:.3f}", "–"])
    typer.echo(
        f"{found['data'][0]}: {units.count(found['people'], 'person')}, {found['shots']} shown of {found['data'][2]}\n"
    )
    show.table(columns, rows, right=tuple(columns[2:]))
    typer.echo(f"\nAn answer that names nothing is wrong; if all were, the mAP would be {found['map_of_nothing']:.3f}.")
    if refused := found["refused"]:
        typer.echo(show.plain(f"{units.count(len(refused), 'answer')} not asked for, such as {refused[0]}."))
    if near := found["retrieval"]:
        typer.echo(f"The nearest example shares a label with {_accuracy(near)} of those asked about.")
    if found["model"] == load.DEMO:
        typer.echo(f"The demo model reads {demo.READS} and nothing else: what it answers about persons is chance.")
    typer.echo(f"records: {out}")


def _accuracy(row: Mapping[str, Any]) -> str:
    low, high = row["interval95"]
    return f"{row['accuracy']:.1%} [{low:.1%}, {high:.1%}]"
