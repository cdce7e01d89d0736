"""Two ranks of tensor parallelism answer as one process; and would not, if they looked on their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM has an environment of its own; CI makes one")

from answers import Answer, Case, here, shipped
from ranks import TOLD, UNTOLD

HERE = Path(__file__).parent
pytestmark = pytest.mark.filterwarnings("default")


def test_two_ranks_answer_as_one_process(tmp_path: Path) -> None:
    """And where the ranks are not told, they do not: the test can fail."""
    paths = [str(HERE), str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    words, file = [sys.executable, str(HERE / "ranks.py")], tmp_path / "answers.json"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([*words, str(file)], capture_output=True, text=True, timeout=500, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [tuple(own) for own in json.loads(file.read_text("utf-8"))]
    told, untold = ([(own.prompt, *own.ids) for own in answered(cases)] for cases in (TOLD, UNTOLD))
    assert found[: len(TOLD)] == told
    assert found[len(TOLD) :] != untold


def answered(cases: list[Case]) -> list[Answer]:
    return [here(shipped(), case, "hero") for case in cases]
