"""A batch that stops at one moment and waits to be killed: `python stopped.py MANIFEST OUT ADDRESS MOMENT`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from herovlm.engines.engine import Answer, Engine
from herovlm.engines.ray import job, manifest

MANIFEST, OUT, ADDRESS, MOMENT = (*map(Path, sys.argv[1:3]), *sys.argv[3:])
ROWS = 3  # of a shard
MOMENTS = {  # in the order of one batch
    "beginning": "the run is written aside, and not in place",
    "loading": "an actor loads the model",
    "placing": "the first shard is written aside, and not in place",
    "answering": "one shard is in place, the next is with the model",
    "ending": "all is in place, and the driver has not said so",
}


def stop() -> None:
    OUT.with_name(f"reached-{MOMENT}").touch()
    time.sleep(600)


def stopping(begins: str) -> None:
    """Stop this process before a file of such a name is put in place."""
    replace = Path.replace

    def replaced(path: Path, target: Path) -> Path:
        if target.name.startswith(begins):
            stop()
        return replace(path, target)

    Path.replace = replaced  # type: ignore[method-assign]


def load() -> Engine:
    if MOMENT == "loading":
        stop()
    if MOMENT == "placing":
        stopping("shard-")
    asked_before = []

    def engine(asked):
        asked_before.append(len(asked))
        if MOMENT == "answering" and len(asked_before) == 2:
            stop()
        with OUT.with_name(f"asked-{MOMENT}").open("a") as file:
            file.write("".join(f"{one.question}\n" for one in asked))
        return [Answer(one.question[::-1], 1.0, 2) for one in asked]

    return engine


if __name__ == "__main__":
    if MOMENT == "beginning":
        stopping("_run")
    rows, done = manifest.read(MANIFEST), 0

    def step(more: int) -> None:
        global done
        done += more
        if MOMENT == "ending" and done == len(rows):
            stop()

    job.run(job.Settings("none", "hero", "0.2", rows=ROWS, address=ADDRESS), rows, OUT, load, step=step)
