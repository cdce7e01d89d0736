"""`herovlm study`: the three findings of the HERO paper, on any model and pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from herovlm.cli import options, show
from herovlm.cli.tidy import some_failed, tidy
from herovlm.errors import UsageError
from herovlm.extras import require_all

Option = typer.Option
Metric = Annotated[str, Option(help="How answers of a .jsonl are scored; the likelihood does not need it.")]
Split = Annotated[str | None, Option(help="Split of the task; its first by default, which for boards is held out.")]
Out = Annotated[Path, Option(help="Folder of records and report; a study that was interrupted, or grows, goes on.")]
Findings = Annotated[str, Option(help="1 tiles, 2 attention, 3 roles; with commas between.")]


@tidy
def study(
    model: options.Model = "demo",
    task: options.Task = "board",
    metric: Metric = "exact_match",
    split: Split = None,
    limit: options.Limit = 50,
    findings: Findings = "1,2,3",
    out: Out = Path("runs/study"),
    threads: options.Threads = None,
    batch: options.Batch = 2_048,
    json: options.Json = False,
    clip: options.Clip = None,
    download: options.Download = False,
) -> None:
    """Measure the findings of HERO: which tiles matter, what CLS attention looks at, which tokens serve what.

    Writes a page, figures and all numbers. Needs the extra 'eval'.
    """
    numbers, threads = findings_of(findings), options.threads_of(threads)
    with show.progress(1) as step:
        step("loading libraries")
        from herovlm.cli import load
        from herovlm.eval import samples
        from herovlm.eval import task as tasks
        from herovlm.study import page, run
        from herovlm.study.summary.whole import summarise

        require_all("matplotlib", "scipy.stats", "sklearn.linear_model", extra="eval")
    asked = samples.asked(tasks.load(task, metric), split)
    ready = partial(load.load, model, clip=clip, download=download)
    how: dict[str, Any] = {"limit": limit, "findings": numbers, "batch": batch, "threads": threads}
    what = run.Study(asked=asked, name=model, load=ready, **how)
    with show.progress(what.steps + 1) as step, load.quiet():
        what.go(out, step)
        step("summing up and drawing")
        found = summarise(out, [run.FINDINGS[number] for number in numbers])
        target = page.write(found, asked, out)
    if json:
        show.as_json({**page.told(found), "out": str(out)})
    else:
        for name, one in found["findings"].items():
            typer.secho(f"{page.TITLES[name]}: {one['verdict']['word']}", bold=True)
            typer.echo(f"{one['verdict']['sentence']}\n")
        typer.echo(f"page: {target}")
    failed = [f"{name}: {why}" for name, why in found["failed"].items()]
    some_failed(failed, "; the same command tries that again, and keeps all that was measured")


def findings_of(text: str) -> list[int]:
    """Read "1,3".

    Raises:
        UsageError: it is not that.
    """
    parts = [part.strip() for part in text.split(",")]
    if not set(parts) <= {"1", "2", "3"}:
        raise UsageError(f"--findings {text!r} is unknown; give 1 (tiles), 2 (attention), 3 (roles), such as 1,3")
    return sorted({int(part) for part in parts})
