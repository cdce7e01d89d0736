"""Where lmms-eval is installed, for tests that run it: here, or where HEROVLM_LMMS_PYTHON says."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tree import SRC

ENVIRONMENT = (
    "python -m venv runs/lmms && runs/lmms/bin/pip install -c constraints.txt -r tests/eval/lmms.txt -e . && "
    "runs/lmms/bin/pip install --no-deps lmms-eval==0.7.3 && "
    "HEROVLM_LMMS_PYTHON=runs/lmms/bin/python pytest tests/eval tests/docs -k lmms"
)
PYTHON = os.environ.get("HEROVLM_LMMS_PYTHON") or (sys.executable if find_spec("lmms_eval") else None)

needs_lmms_eval = pytest.mark.skipif(PYTHON is None, reason=f"lmms-eval is not installed; {ENVIRONMENT}")


def python(*words: str | Path, folder: Path) -> str:
    """Run Python where lmms-eval is, without a network, and return what it printed."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
    env = {**os.environ, **offline, "PYTHONPATH": str(SRC)}
    done = subprocess.run([str(PYTHON), *map(str, words)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
