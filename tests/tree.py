"""The files of the project, for tests that read it instead of importing it, and the rule about the demo model."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
WEIGHTS = SRC / "herovlm/demo/weights"


def project_files(root: Path = ROOT) -> list[Path]:
    """Files that are, or would be, tracked, but not those of an environment that lies in the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=root, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        paths = [root / name for name in listed.stdout.split("\0") if name]
    else:  # an unpacked archive
        folders = [root / name for name in ("src", "tests", "training", "docs", "benchmarks", "examples")]
        paths = [*root.iterdir(), *(path for folder in folders for path in folder.rglob("*"))]
    others = {path for path in root.iterdir() if _is_environment(path)}
    return sorted(
        path for path in paths if path.is_file() and "__pycache__" not in path.parts and others.isdisjoint(path.parents)
    )


def _is_environment(folder: Path) -> bool:
    """Whether packages were installed into a folder, by venv, conda or `pip install --target`."""
    return (folder / "pyvenv.cfg").exists() or (folder / "conda-meta").exists() or any(folder.glob("*.dist-info"))


def need_demo_model() -> None:
    """Skip where the weights of the demo model have not been trained yet; under CI that is a failure."""
    if not (WEIGHTS / "config.json").exists():
        why = f"the demo model's weights are not in {WEIGHTS.relative_to(ROOT)}; see training/demo"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)
