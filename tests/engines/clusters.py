"""A Ray cluster of one machine with few CPUs, and engines without a model: what a batch does around one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from herovlm.engines.engine import Answer, Engine

CPUS = 4  # as Ray counts them


@contextmanager
def started() -> Iterator[str]:
    """Start a cluster with Ray's own command; yields its address."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets lie in it: a long path is none for them
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--port=0"]
    command += [f"--num-cpus={CPUS}", "--include-dashboard=false"]
    command += [f"--object-store-memory={128 << 20}", "--disable-usage-stats", f"--temp-dir={folder}"]
    own = {"RAY_worker_niceness": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_AUTH_MODE": "disabled"}
    own["PYTHONUNBUFFERED"] = "1"
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **own}
    )
    try:
        said = ""
        for line in process.stdout or ():
            said += line
            if "ray start --address='" in line:
                yield line.split("'")[1]
                break
        else:
            raise AssertionError(f"no cluster:\n{said}")
    finally:
        for one in [process, *psutil.Process(process.pid).children(recursive=True)]:
            with suppress(psutil.Error):
                one.kill()
        process.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def pretending(log: Path, deadly: str = "", loads: bool = True, together: int = 1) -> Callable[[], Engine]:
    """Make what loads an engine that says the question backwards.

    Args:
        log: gets a line for all that is asked: which process, and how many rows.
        deadly: name of a picture that kills the process that decodes it.
        loads: whether the model can be loaded, or kills who tries.
        together: processes that must have been asked something before any of them answers.
    """

    def ready() -> Engine:
        from herovlm.engines.ray import answer

        if not loads:
            with log.open("a") as file:
                file.write("load\n")
            os._exit(1)
        opened = answer.open_picture

        def open_picture(path: str) -> object:
            if deadly and path.endswith(deadly):
                with log.open("a") as file:
                    file.write("died\n")
                os._exit(1)
            return opened(path)

        answer.open_picture = open_picture  # type: ignore[assignment]

        def engine(asked):
            with log.open("a") as file:
                file.write(f"{os.getpid()} {len(asked)}\n")
            while len({line.split()[0] for line in log.read_text().splitlines()}) < together:
                time.sleep(0.1)
            return [Answer(one.question[::-1], 1.0, 2) for one in asked]

        return engine

    return ready


def answers(out: Path) -> dict[str, str]:
    """Answers by id; an id that is there twice fails."""
    rows = pq.read_table(out).to_pylist()
    found = {row["id"]: row["answer"] for row in rows}
    assert len(found) == len(rows)
    return found
