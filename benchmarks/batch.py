"""What `herovlm batch` costs beside a loop, and what it holds: `python benchmarks/batch.py --json FILE|- [--small]`.

ways    the same rows of the demo model, one thread a process: a loop in this process, one actor, two actors; in
        interleaved rounds, each timed from the end of its first third on, when models are loaded and caches are warm.
        A row's "seconds" are the wall's, "processor" those of the processes that hold the model, and "around" those of
        the driver and of Ray, which go on while nothing is to do.
memory  resident sets of the actor and the driver over many boards, all of them drawn for it, none of them twice; the
        model has the demo's shapes, few layers and random weights, and says one token, so that this ends.

Ratios are within a round, so that whatever else the machine does hits both.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray
import torch
import transformers
from record import put, ratios, spreads

from herovlm import demo
from herovlm.cost.clock import race
from herovlm.demo import scenes
from herovlm.engines.engine import Asked
from herovlm.engines.ray import job, shards
from herovlm.engines.ray.manifest import Row
from herovlm.engines.transformers import ready
from herovlm.pictures import open_picture
from herovlm.request import Request

METHOD, KEEP, BATCH, TOKENS = "hero", 0.2, 8, 8
FIRST = 10_000  # seed of the boards: no held-out ones
SMALL_BOARD = (192, 192)  # one tile and the overview
MIB = 1 << 20
Mark = tuple[int, float, float, float]  # rows that are done; seconds: wall, processor, around


def drawn(seed: int, folder: Path, size: tuple[int, int] | None = None) -> Row:
    """Draw a board, and ask one question about it."""
    board, path = scenes.make(seed, size=size), folder / f"{seed}.png"
    board.image.save(path, compress_level=1)
    return Row(str(seed), str(path), board.questions[0].text)


def family(holding: bool) -> list[psutil.Process]:
    """The processes that hold the model; or this one, and the rest of what it has started."""
    here, found = psutil.Process(), []
    for one in here.children(recursive=True):
        with suppress(psutil.Error):
            if ("MapWorker" in " ".join(one.cmdline())) == holding:
                found.append(one)
    return found if holding else [here, *found]


def processor(holding: bool) -> float:
    """Processor seconds of some processes together."""
    spent = 0.0
    for one in family(holding):
        with suppress(psutil.Error):
            spent += sum(one.cpu_times()[:2])
    return spent


def warm(marks: Sequence[Mark]) -> dict[str, float]:
    """Seconds a row, from the end of the first third on."""
    last = marks[-1]
    first = next(mark for mark in marks if mark[0] >= last[0] / 3)
    rows = last[0] - first[0]
    names = ("seconds", "processor", "around")
    return {name: (b - a) / rows for name, a, b in zip(names, first[1:], last[1:], strict=True)}


def loop(engine: Any, parts: Sequence[Sequence[Row]]) -> dict[str, float]:
    """Answer in this process, shard after shard, in the same batches."""
    marks: list[Mark] = []
    for part in parts:
        for start in range(0, len(part), BATCH):
            engine([Asked(row.question, open_picture(row.image)) for row in part[start : start + BATCH]])
        rows = len(part) + (marks[-1][0] if marks else 0)
        marks.append((rows, time.perf_counter(), time.process_time(), 0.0))
    return warm(marks)


def batch(load: Callable[[], Any], rows: Sequence[Row], settings: job.Settings) -> dict[str, float]:
    """Answer with actors, into a folder of its own."""
    marks: list[Mark] = []

    def step(more: int) -> None:
        done = more + (marks[-1][0] if marks else 0)
        marks.append((done, time.perf_counter(), processor(True), processor(False)))

    with tempfile.TemporaryDirectory() as folder:
        job.run(settings, rows, Path(folder), load, step=step)
    return warm(marks[1:])  # the first says that nothing was there


def resident() -> dict[str, float]:
    """Resident MiB of the driver and the actor."""
    found = {"driver": psutil.Process().memory_info().rss}
    for one in family(holding=True):
        with suppress(psutil.Error):
            found["actor"] = max(found.get("actor", 0), one.memory_info().rss)
    return {name: round(value / MIB, 1) for name, value in found.items()}


def few_layers() -> tuple[Any, Any]:
    """Make a model of the demo's shapes with few layers and random weights."""
    config = transformers.AutoConfig.from_pretrained(demo.WEIGHTS)
    config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers = 3, 1
    torch.manual_seed(0)
    model = transformers.LlavaNextForConditionalGeneration(config).eval()
    return model, transformers.AutoProcessor.from_pretrained(demo.WEIGHTS)


def memory(boards: int, folder: Path) -> dict[str, Any]:
    """Answer one question about each of so many boards; the resident sets at every tenth of them."""
    with ProcessPoolExecutor(2) as pool:
        seeds = range(FIRST, FIRST + boards)
        rows = list(pool.map(partial(drawn, folder=folder, size=SMALL_BOARD), seeds, chunksize=50))
    settings = job.Settings("few layers", METHOD, str(KEEP), 1, BATCH, rows=max(1, boards // 100), threads=1)
    done, taken = 0, list[dict[str, Any]]()

    def step(more: int) -> None:
        nonlocal done
        done += more
        if more and done >= (len(taken) + 1) * boards / 10:
            taken.append({"rows": done, **resident()})

    method = f"{METHOD}(alpha=1)"  # no text tower is beside random weights
    load = partial(ready, few_layers, Request.of(method, keep=KEEP), 1)
    start = time.perf_counter()
    found = job.run(settings, rows, folder / "out", load, step=step)
    grown = {name: round(taken[-1][name] - taken[0][name], 1) for name in ("actor", "driver")}
    return {
        "boards": boards,
        "answered": found.answered,
        "model": "random weights of the demo model's shapes, 3 tower layers, 1 layer of the LLM, 1 new token",
        "method": method,
        "mib": taken,
        "grown_mib": grown,
        "seconds": round(time.perf_counter() - start, 1),
    }


def measure(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure the ways, then the memory."""
    torch.set_num_threads(1)
    load = partial(ready, demo.load, Request.of(METHOD, keep=KEEP), TOKENS)
    of_shard = 4 if args.small else 8
    with tempfile.TemporaryDirectory() as folder:
        rows = [drawn(seed, Path(folder)) for seed in range(FIRST, FIRST + args.rows)]

        def settings(actors: int) -> job.Settings:
            how = {"rows": of_shard, "actors": (actors, actors), "threads": 1}
            return job.Settings("demo", METHOD, str(KEEP), TOKENS, BATCH, **how)  # type: ignore[arg-type]

        parts = [part for part in shards.split(rows, job.count(settings(1), rows)) if part]
        engine = load()
        ways = {"loop": lambda: loop(engine, parts)}
        for actors in (1, 2):
            ways[f"{actors} actor{'s' * (actors > 1)}"] = partial(batch, load, rows, settings(actors))
        with job.started(settings(2)):
            samples = race(ways, args.rounds, warmup=0)
    result = {
        "rows": len(rows),
        "results": spreads(samples),
        "samples": {
            way: {what: [round(v, 5) for v in values] for what, values in of.items()} for way, of in samples.items()
        },
        "ratios": {f"{what}_over_loop": ratios(samples, what, "loop") for what in ("seconds", "processor")},
        "rows_a_second": {way: round(1 / of["seconds"]["median"], 2) for way, of in spreads(samples).items()},
    }
    yield result
    with tempfile.TemporaryDirectory() as folder:
        yield {**result, "memory": memory(args.boards, Path(folder))}


def main() -> None:
    """Read the options, measure, and write one JSON object, anew when there is more of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="few rows and one round: a minute or two")
    parser.add_argument("--rounds", type=int, help="rounds that count; 5, with --small 1")
    parser.add_argument("--rows", type=int, help="rows of a way in a round; 96, with --small 24")
    parser.add_argument("--boards", type=int, help="boards of the memory; 10000, with --small 100")
    parser.add_argument("--json", default="-", help="file to write, or - for standard output")
    args = parser.parse_args()
    args.rounds = args.rounds or (1 if args.small else 5)
    args.rows = args.rows or (24 if args.small else 96)
    args.boards = args.boards or (100 if args.small else 10_000)
    begun, load = time.time(), os.getloadavg()
    for found in measure(args):
        about = {
            "benchmark": "batch",
            "small": args.small,
            "rounds": args.rounds,
            "command": f"python benchmarks/batch.py {' '.join(sys.argv[1:])}",
            "device": "cpu",
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "load": {"before": [round(one, 1) for one in load], "after": [round(one, 1) for one in os.getloadavg()]},
            "shared": load[0] > 1,  # with other work, which was there before
            "threads": 1,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "ray": ray.__version__,
            "model": "the demo model",
            "method": METHOD,
            "keep": KEEP,
            "batch": BATCH,
            "new_tokens": TOKENS,
        }
        put(args.json, {**about, **found, "took_seconds": round(time.time() - begun)})


if __name__ == "__main__":
    main()
