"""The files of the project, for tests that read it instead of importing it, and the rule about the demo model."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
WEIGHTS = SRC / "herovlm/demo/weights"


def project_files() -> list[Path]:
    """Files that are, or would be, tracked."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        paths = [ROOT / line for line in listed.stdout.splitlines()]
    else:  # an unpacked archive
        roots = [ROOT / name for name in ("src", "tests", "training", "docs", "benchmarks", "examples")]
        paths = [*ROOT.iterdir(), *(path for root in roots for path in root.rglob("*"))]
    return sorted(path for path in paths if path.is_file() and "__pycache__" not in path.parts)


def need_demo_model() -> None:
    """Skip where the weights of the demo model have not been trained yet; under CI that is a failure."""
    if not (WEIGHTS / "config.json").exists():
        why = f"the demo model's weights are not in {WEIGHTS.relative_to(ROOT)}; see training/demo"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)
