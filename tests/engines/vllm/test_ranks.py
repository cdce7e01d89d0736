"""Two ranks of tensor parallelism answer as one process; and would not, if they looked on their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM has an environment of its own; CI makes one")

from answers import here, shipped
from ranks import CASES

HERE = Path(__file__).parent
pytestmark = pytest.mark.filterwarnings("default")


def two(answers: Path, *more: str) -> list[tuple[int, ...]]:
    paths = [str(HERE), str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    words = [sys.executable, str(HERE / "ranks.py"), str(answers), *more]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=500, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [tuple(own) for own in json.loads(answers.read_text("utf-8"))]


def test_two_ranks_answer_as_one_process(tmp_path: Path) -> None:
    expected = [(own.prompt, *own.ids) for own in (here(shipped(), case, "hero") for case in CASES)]
    assert two(tmp_path / "told") == expected
    assert two(tmp_path / "deaf", "--deaf") != expected
