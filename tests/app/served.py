"""A running `herovlm app` for tests: a process of its own, on a free port, with a temporary folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Served:
    """Where the page is, and who serves it."""

    url: str
    process: subprocess.Popen[str]
    folder: Path  # where it puts its temporary files


# `python -m herovlm`, whose answers are timed in one round: nobody reads these times.
START = "from herovlm.cli import main, session; session.RUNS = 1; main.run()"


@contextmanager
def served(folder: Path, *words: str) -> Iterator[Served]:
    """Start the command and wait until it says where the page is; end it if it still runs at the end."""
    line = [sys.executable, "-c", START, "app", "--port", "0", *words]
    env = {**os.environ, "TMPDIR": str(folder), "HEROVLM_DEBUG": "1"}
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=errors, text=True, env=env)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert "http://127.0.0.1:" in said, (folder / "stderr").read_text()
        yield Served(said.split()[2], process, folder)
    finally:
        process.kill()
        process.communicate()
