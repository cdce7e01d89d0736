"""An environment inside the checkout, of whatever name, is not taken for the project."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tree import ROOT, project_files

PARTS = ("pyproject.toml", "README.md", "LICENSE", "src/herovlm/__init__.py", "src/herovlm/errors.py")
MARKS = {"venv": "pyvenv.cfg", "conda": "conda-meta/history", "pip --target": "six-1.0.dist-info/METADATA"}
STRANGE = {"README.md": "```bash\necho 'never closed\n```\n```python\nf( 1)\n```\n", "bad.py": "import os\nprint( 1)\n"}


@pytest.fixture(params=MARKS)
def checkout(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A few files of the project, and beside them an environment."""
    for name in PARTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    home = tmp_path / "my env"
    mark = home / MARKS[request.param]
    packages = home if mark.suffix == "" and mark.name == "METADATA" else home / "lib/python3/site-packages"
    for folder in (mark.parent, packages):
        folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    for name, text in STRANGE.items():
        (packages / name).write_text(text, "utf-8")
    return tmp_path


@pytest.mark.parametrize("git", [True, False])
def test_its_files_are_not_ours(checkout: Path, git: bool) -> None:
    if git:
        subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    assert {str(path.relative_to(checkout)) for path in project_files(checkout)} == {*PARTS}


def test_linters_and_builders_leave_it_alone(checkout: Path) -> None:
    lint = ["ruff", "check", "--no-cache"], ["ruff", "format", "--no-cache", "--check"]
    for tool in (*lint, ["hatchling", "build", "-t", "sdist", "-d", "dist"]):
        done = subprocess.run([sys.executable, "-m", *tool], cwd=checkout, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = (checkout / "dist").iterdir()
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert names == {*PARTS, "PKG-INFO"}
