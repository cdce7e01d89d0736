"""`herovlm batch`: a manifest of pictures and questions in, a folder of answers out, on Ray Data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from herovlm.cli import options, show
from herovlm.cli.tidy import some_failed, tidy
from herovlm.errors import UsageError
from herovlm.extras import require_all

if TYPE_CHECKING:
    from herovlm.engines.engine import Engine
    from herovlm.engines.ray.job import Outcome
    from herovlm.request import Request

Option = typer.Option
Manifest = Annotated[
    Path, typer.Argument(help="A .parquet, .csv or .jsonl with the columns id, image (a path) and question.")
]
Out = Annotated[Path, Option(help="Folder of the answers; one that was interrupted goes on.")]
Batch = Annotated[int, Option(min=1, help="Rows that an actor answers at once.")]
Rows = Annotated[int, Option(min=1, help="Rows of a shard, about: what is lost when a machine dies.")]
Actors = Annotated[str, Option(help="Processes that hold the model: 2, or 1-4 to grow and shrink between.")]
Cpus = Annotated[float, Option(min=0, help="CPUs of an actor, as Ray counts them.")]
Gpus = Annotated[float, Option(min=0, help="GPUs of an actor; 0.5 lets two share one.")]
Address = Annotated[
    str | None, Option(help="Of a Ray cluster that runs, such as auto; by default Ray is started here.")
]
EngineName = Annotated[Literal["transformers", "vllm"], Option(help="What runs the model; vllm needs vLLM beside Ray.")]
Retry = Annotated[bool, Option("--retry-failed", help="Try rows again that failed before.")]


@tidy
def batch(
    manifest: Manifest,
    out: Out = Path("runs/batch"),
    model: options.Model = "demo",
    method: Annotated[str, Option(help="Method, such as hero, or 'full + contrast'.")] = "hero",
    keep: options.Keep = None,
    tokens: options.Tokens = None,
    batch: Batch = 8,
    shard_rows: Rows = 64,
    actors: Actors = "1",
    cpus: Cpus = 1.0,
    gpus: Gpus = 0.0,
    threads: options.Threads = None,
    address: Address = None,
    retry_failed: Retry = False,
    max_new_tokens: options.NewTokens = 64,
    engine: EngineName = "transformers",
    json: options.Json = False,
    clip: options.Clip = None,
    download: options.Download = False,
) -> None:
    """Answer a pile of questions about pictures on one machine or many. Needs the extra 'ray'.

    Each id has exactly one row in the Parquet files of the folder: its answer, or why there is none in `error`; then
    the exit status is 3.  A run that was killed goes on with the same command.
    """
    budget, most, gpus = options.budget_of(keep, tokens), actors_of(actors), gpus_of(gpus, engine)
    with show.progress(1) as step:
        step("loading libraries")
        require_all("ray.data", "pyarrow", "filelock", extra="ray")
        from herovlm.api import Request
        from herovlm.budget import told
        from herovlm.cli import load
        from herovlm.engines.ray import job
        from herovlm.engines.ray import manifest as manifests
    spec = options.method_of(method)
    request, rows = Request.of(spec, keep=budget), manifests.read(manifest)
    shape = {"max_new_tokens": max_new_tokens, "batch": batch, "rows": shard_rows}
    where = {"actors": most, "cpus": cpus, "gpus": gpus, "threads": options.threads_of(threads), "address": address}
    if engine == "vllm":
        name, start = _on_vllm(model, request, spec, max_new_tokens, clip, download)
    else:
        loaded = partial(load.load, model, clip=clip, download=download)
        name, start = _on_transformers(loaded, request, max_new_tokens)
    runs = {"model": model, "method": spec, "keep": str(told(budget)), "engine": name}
    settings = job.Settings(**runs, **shape, **where)  # type: ignore[arg-type]
    ray_aside = redirect_stdout(sys.stderr)  # it prints of processes that died
    with show.counting(len(rows), "rows") as step, load.quiet(), ray_aside:
        found = job.run(settings, rows, out, start, load.folder_of(model), retry_failed, step)
    _told(found, out, json)


def _on_transformers(loaded: Callable[[], Any], request: Request, new_tokens: int) -> tuple[str, Callable[[], Engine]]:
    """Name the engine, and say how an actor starts it."""
    from herovlm.engines import transformers

    return "transformers", partial(transformers.ready, loaded, request, new_tokens)


def _on_vllm(
    model: str, request: Request, method: str, new_tokens: int, clip: str | None, download: bool
) -> tuple[str, Callable[[], Engine]]:
    """Name the engine, and say how an actor starts it, once it is clear that it can.

    Raises:
        HeroError: vLLM is not here, or does not serve this model or method.
    """
    from herovlm.cli import load
    from herovlm.engines.vllm import offline, serve, tested
    from herovlm.engines.vllm.asked import Settings

    name = f"vllm {tested()}"
    settings = Settings.asking(method, request.budget, load.clip_of(clip))
    place, config = load.config_of(model, download)
    serve.overrides(config, settings)
    return name, partial(offline.ready, place, settings, new_tokens)


def _told(found: Outcome, out: Path, json: bool) -> None:
    """Print what came of it; rows that failed are an exit status."""
    if json:
        show.as_json({**vars(found), "out": str(out)})
    else:
        share = f"{found.kept:.0%} of their visual positions"
        typer.echo(f"{found.answered:,} of {found.rows:,} rows answered, with {share}")
        if found.skipped:
            typer.echo(f"{found.skipped:,} of them were there before")
        typer.echo(f"answers: {out}/shard-*.parquet")
    if found.failed:
        more = "; the column 'error' says of each row why, --retry-failed tries them again"
        some_failed([f"{found.failed:,} of {found.rows:,} rows: {found.error}"], more)


def gpus_of(gpus: float, engine: str) -> float:
    """Check how many GPUs an actor has.

    Raises:
        UsageError: an engine of vLLM cannot have so many.
    """
    if engine == "vllm" and gpus not in (0, 1):
        raise UsageError(f"--gpus {gpus:g} with --engine vllm, whose engine takes all of one GPU's memory; give 0 or 1")
    return gpus


def actors_of(text: str) -> tuple[int, int]:
    """Read "2", or "1-4": the least and the most actors.

    Raises:
        UsageError: it is neither.
    """
    least, dash, most = text.strip().partition("-")
    numbers = [least, most] if dash else [least, least]
    if not all(number.isdecimal() and int(number) for number in numbers) or int(numbers[0]) > int(numbers[1]):
        raise UsageError(f"--actors {text!r} is no number of processes; give one such as 2, or a range such as 1-4")
    return int(numbers[0]), int(numbers[1])
