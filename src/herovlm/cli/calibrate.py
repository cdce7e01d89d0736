"""`herovlm calibrate`: what keep="auto" goes by, measured on a model."""

from __future__ import annotations

import os
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
Model = Annotated[str, typer.Argument(metavar="MODEL", help="'demo', the folder of a model, or its name on the hub.")]
Methods = Annotated[str, Option(help="Methods, with commas between; each has a curve of its own.")]
Split = Annotated[str | None, Option(help="Split of the task; 'development' where there is one, else its first.")]
File = Annotated[Path | None, Option(help="The calibration.", show_default="where keep='auto' looks for it")]
Out = Annotated[Path, Option(help="Folder of the records; a calibration that was interrupted goes on.")]


@tidy
def calibrate(
    model: Model,
    task: options.Task = "board",
    methods: Methods = "hero",
    metric: options.Metric = None,
    split: Split = None,
    limit: options.Limit = 200,
    file: File = None,
    out: Out = Path("runs/calibrate"),
    threads: options.Threads = None,
    batch: options.Batch = 16_384,
    max_new_tokens: options.TaskTokens = None,
    json: options.Json = False,
    clip: options.Clip = None,
    download: options.Download = False,
) -> None:
    """Measure how many positions a picture needs for a stated loss, so that --keep auto works on a model.

    Asks every question with all positions and at ten rates of positions for each different patch of the picture, and
    writes a file that names the model by some of its weights, the methods and the task. Needs the extra 'eval'.
    """
    names, threads = options.methods_of(methods), options.threads_of(threads)
    with show.progress(1) as step:
        step("loading libraries")
        require_all("scipy.stats", "rapidfuzz", extra="eval")
        import torch

        from herovlm.cli import load
        from herovlm.eval import calibrate as calibration
        from herovlm.eval import samples
        from herovlm.eval import task as tasks
    target = _target(model, file)
    told = tasks.load(task, metric)
    where = "development" if split is None and "development" in told.splits else split
    asked = samples.asked(told, where, limit=limit)
    how: dict[str, Any] = {"limit": limit, "max_new_tokens": max_new_tokens, "batch": batch}
    ready = partial(load.load, model, clip=clip, download=download)
    what = calibration.Calibration(asked=asked, methods=names, name=model, load=ready, **how)
    torch.set_num_threads(threads or torch.get_num_threads())
    with show.progress(len(asked.pictures)) as step, load.quiet():
        found = what.go(out, step)
    calibration.write(target, found)
    if json:
        show.as_json({**found, "file": str(target)})
    else:
        _print(found)
        how_to = f" (--keep \"auto(file='{target}')\")" if file or model == "demo" else ""
        typer.echo(f"\ncalibration: {target}{how_to}")
    unusable = found["measured"][names[0]]["unusable"]
    some_failed([*unusable.values()], "; the same command tries that again, and keeps all that was measured")


def _print(found: Mapping[str, Any]) -> None:
    """Print a table a method."""
    from herovlm.eval.tables import FEW
    from herovlm.viz import units

    for name, one in found["measured"].items():
        about = f"{units.count(one['questions'], 'question')} about {units.count(one['pictures'], 'picture')}"
        typer.echo(f"\n{name}: {about} of {one['task']['name']} {one['task']['split']}, {one['metric']}\n")
        columns = ["positions each", "lost", "95 % interval", "mean keep"]
        rows = [
            [each, f"{point['loss']:.1%}", " to ".join(f"{end:.1%}" for end in point["interval95"]), point["mean_keep"]]
            for each, point in one["rates"].items()
        ]
        show.table(columns, [[str(cell) for cell in row] for row in rows], right=tuple(columns))
        if one["pictures"] < FEW:
            typer.echo(f"\nFewer than {FEW} pictures: these intervals are too narrow, and a promise is worth little.")


def _target(model: str, file: Path | None) -> Path:
    """Where the file goes, checked before any work is done.

    Raises:
        UsageError: nothing can be written there.
    """
    from herovlm import auto

    path = file or (Path(auto.FILE) if model == "demo" else auto.place_of(str(Path(model).expanduser())))
    home = path.parent
    while not home.exists():
        home = home.parent
    if path.is_dir() or not home.is_dir() or not os.access(home, os.W_OK):
        raise UsageError(f"{path} cannot be written; give another --file, such as --file {auto.FILE}")
    return path
