"""A batch on Ray Data: shards are dealt to actors that hold the model, and each puts its files in place by itself."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from herovlm import __version__
from herovlm.engines.engine import Engine
from herovlm.engines.ray import shards
from herovlm.engines.ray.answer import Answering
from herovlm.engines.ray.manifest import Row, digest
from herovlm.engines.ray.tries import MOST
from herovlm.errors import HeroError, SetupError, reason

Load = Callable[[], Engine]  # Ray sends it to the actors, and each loads the model for itself
SPARE = 2  # logical CPUs beside those of the actors: Ray's own tasks starve without one, and nothing moves
LOCAL = {
    "RAY_worker_niceness": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}  # Ray runs its workers at 15: behind anything else
LOADING = "the model"  # is tried as rows are
STORE = 256 << 20  # bytes of Ray's store of objects, where it is started here: rows are small


@dataclass(frozen=True)
class Settings:
    """What a batch is, and how it runs."""

    model: str
    method: str
    keep: str  # as `herovlm.budget.told` writes it
    engine: str = "transformers"  # its name; how it starts is told to `run`
    max_new_tokens: int = 64
    batch: int = 8  # rows that an actor answers at once
    rows: int = 64  # of a shard, about: what is lost when a machine dies
    actors: tuple[int, int] = (1, 1)  # least and most of them
    cpus: float = 1.0  # of an actor, as Ray counts them
    gpus: float = 0.0
    threads: int | None = None  # of an actor's CPU work; None shares the cores out
    address: str | None = None  # of a cluster that is there; None starts Ray here


@dataclass(frozen=True)
class Outcome:
    """What came of a batch."""

    rows: int
    answered: int
    failed: int
    skipped: int  # rows of shards that were finished before
    seconds: float
    kept: float  # share of the visual positions, over the rows that were answered
    error: str = ""  # of one that failed


def fingerprint(settings: Settings, rows: Sequence[Row], weights: Path | None) -> dict[str, Any]:
    """Name all that an answer depends on, in plain values."""
    return {
        "model": settings.model,
        "weights": "" if weights is None else files(weights),
        "method": settings.method,
        "keep": settings.keep,
        "engine": settings.engine,
        "max_new_tokens": settings.max_new_tokens,
        "prompt": "the processor's chat template; greedy",
        "rows": len(rows),
        "manifest": digest(rows),
        "shards": count(settings, rows),
        "herovlm": __version__,
        **{name: version(name) for name in ("torch", "transformers")},
    }


def count(settings: Settings, rows: Sequence[Row]) -> int:
    """Return how many shards there are."""
    return max(1, -(-len(rows) // settings.rows))


def files(folder: Path) -> str:
    """Name a model by its files: what the small ones hold, and how large the others are."""
    told = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = path.stat().st_size
        told.update(f"{path.relative_to(folder)} {size}\n".encode())
        if size < 1 << 20:
            told.update(path.read_bytes())
    return told.hexdigest()[:16]


def run(
    settings: Settings,
    rows: Sequence[Row],
    folder: Path,
    load: Load,
    weights: Path | None = None,
    retry: bool = False,
    step: Callable[[int], None] = lambda rows: None,
) -> Outcome:
    """Answer all rows that have no answer in a folder yet.

    Args:
        settings: what the batch is.
        rows: of the manifest.
        folder: where the shards go; every machine of a cluster must see it.
        load: loads the model, in each actor.
        weights: the folder of the model, to know it again.
        retry: whether rows that failed are tried again.
        step: is told how many rows are done.

    Raises:
        UsageError: the folder holds another run, or another batch writes into it.
        SetupError: nothing can be written, or the model cannot be loaded; what is finished stays.
    """
    with shards.held(folder):
        shards.agree(folder, fingerprint(settings, rows, weights))
        parts = shards.split(rows, count(settings, rows))
        found = {number: shards.read(folder, number, part) for number, part in enumerate(parts) if part}
        left = [number for number, old in found.items() if old is None or (retry and any(one["error"] for one in old))]
        skipped = len(rows) - sum(len(parts[number]) for number in left)
        step(skipped)
        items = [{"shard": number, "rows": _packed(parts[number])} for number in left]
        error = ""
        if items:
            with started(settings):
                for done in _answered(items, settings, folder, load):
                    if error := str(done["lost"]):  # the disk is full, say: what comes later would be lost too
                        break
                    step(int(done["rows"]))
        if error:
            raise SetupError(f"{error}; what is finished is in {folder}, the same command goes on from there")
        return _outcome(folder, parts, skipped)


def _outcome(folder: Path, parts: Sequence[Sequence[Row]], skipped: int) -> Outcome:
    """Count what is in the folder."""
    records = [one for number, part in enumerate(parts) if part for one in shards.read(folder, number, part) or []]
    failed = [one for one in records if one["error"]]
    good = [one for one in records if not one["error"]]
    rows = sum(map(len, parts))
    if len(records) != rows:
        lost = rows - len(records)
        raise SetupError(f"{lost} of {rows} rows are not in {folder}; the same command goes on from there")
    kept = sum(one["kept"] for one in good) / max(1, sum(one["of"] for one in good))
    seconds = sum(one["seconds"] for one in good)
    return Outcome(rows, len(good), len(failed), skipped, seconds, kept, failed[0]["error"] if failed else "")


def _packed(rows: Sequence[Row]) -> str:
    return json.dumps([asdict(row) for row in rows])


@contextmanager
def started(settings: Settings) -> Iterator[None]:
    """Have Ray: one that runs in this process, a cluster, or one started here with CPUs to spare."""
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if settings.address is not None:
        try:
            ray.init(address=settings.address, **quiet)
        except Exception as error:
            raise SetupError(f"no Ray cluster answers at {settings.address} ({_why(error)})") from error
    else:
        for name, value in LOCAL.items():
            os.environ.setdefault(name, value)
        cpus = max(os.cpu_count() or 1, -(-settings.actors[1] * settings.cpus // 1)) + SPARE
        ray.init(address="local", num_cpus=int(cpus), include_dashboard=False, object_store_memory=STORE, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def _why(error: BaseException) -> str:
    """Name what stopped Ray: the end of its first cause, or that a token is wanted."""
    while error.__cause__ is not None:
        error = error.__cause__
    if "RAY_AUTH_MODE" in str(error):
        return "it wants a token: set RAY_AUTH_MODE=token, and have that of the cluster in ~/.ray/auth_token"
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _answered(
    items: Sequence[Mapping[str, Any]], settings: Settings, folder: Path, load: Load
) -> Iterator[Mapping[str, Any]]:
    """Deal shards to actors; yields what each says, as it is finished."""
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    least, most = settings.actors
    pool = ray.data.ActorPoolStrategy(min_size=min(least, len(items)), max_size=min(most, len(items)))
    threads = settings.threads or max(1, (os.cpu_count() or 1) // most)
    how: dict[str, Any] = {"num_gpus": settings.gpus} if settings.gpus else {}
    found = ray.data.from_items(list(items), override_num_blocks=len(items)).map_batches(
        Actor,
        fn_constructor_kwargs={
            "load": load,
            "settings": settings,
            "folder": str(folder.resolve()),
            "threads": threads,
        },
        batch_size=1,
        compute=pool,
        num_cpus=settings.cpus,
        **how,
    )
    try:
        yield from found.iter_rows()
    except HeroError:
        raise
    except Exception as error:  # of Ray, around what went wrong in an actor
        raise SetupError(f"Ray gave up: {reason(error)}") from error


class Actor:
    """Holds the model in a process of Ray, and answers shards."""

    def __init__(self, load: Load, settings: Settings, folder: str, threads: int) -> None:
        import ray
        import torch

        torch.set_num_threads(threads)
        self.folder, self.why, self.answering = Path(folder), "", None
        tries = shards.tries(self.folder, ray.get_runtime_context().get_actor_id())
        try:
            if (died := tries.died.get(LOADING, 0)) >= MOST:
                raise SetupError(f"{died} processes died of it; is there memory enough?")
            tries.begin([LOADING])
            self.answering = Answering(load(), settings.batch)
            tries.end()
        except Exception as error:  # told by every shard: an actor that cannot begin would be started for ever
            self.why = f"the model {settings.model} cannot be loaded: {reason(error)}"

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one shard, and put its file in place; rows of it that have an answer already keep it."""
        shard, rows = int(batch["shard"][0]), [Row(**one) for one in json.loads(str(batch["rows"][0]))]
        said = {"shard": shard, "rows": len(rows), "lost": self._written(shard, rows)}
        return {name: np.array([value]) for name, value in said.items()}

    def _written(self, shard: int, rows: Sequence[Row]) -> str:
        """Return why it could not be, "" if it could."""
        if self.answering is None:
            return self.why
        try:
            old = {one["id"]: one for one in shards.read(self.folder, shard, rows) or [] if not one["error"]}
            left, tries = [row for row in rows if row.id not in old], shards.tries(self.folder, f"{shard:05d}")
            new = {one["id"]: one for one in self.answering.answer(left, tries)}
            shards.write(self.folder, shard, [{**old, **new}[row.id] for row in rows])
        except (OSError, SetupError) as error:
            return f"shard {shard} was not written: {reason(error)}"
        return ""
