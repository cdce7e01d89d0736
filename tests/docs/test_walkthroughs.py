"""CONTRIBUTING.md, done: its files are written into a copy of the project, and its commands are run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pages import SHELL, blocks, commands
from tree import ROOT, SRC, need_demo_model

GUIDE = ROOT / "CONTRIBUTING.md"
COPIED = ("src", "tests", "docs", "benchmarks", "README.md", "CONTRIBUTING.md", "pyproject.toml")
FILES = {block.file: block.text for block in blocks(GUIDE) if block.file}
LINES = [line[1:] for block in blocks(GUIDE) if block.language == "diff" for line in block.text.splitlines()]
TABLES = [
    ("src/herovlm/registry.py", "METHODS"),
    ("src/herovlm/registry.py", "FAMILIES"),
]
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after the steps of the guide that write files."""
    root = tmp_path_factory.mktemp("project")
    for name in COPIED:
        leave = shutil.ignore_patterns("*.safetensors", "__pycache__")
        shutil.copytree(ROOT / name, root / name, ignore=leave) if (ROOT / name).is_dir() else shutil.copy(
            ROOT / name, root
        )
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text.partition("\n")[2], "utf-8")
    for (name, table), line in zip(TABLES, LINES, strict=True):
        head, text = f"\n{table} = {{\n", (root / name).read_text("utf-8")
        assert text.count(head) == 1
        (root / name).write_text(text.replace(head, f"{head}{line}\n"), "utf-8")
    return root


def run(words: Sequence[str], root: Path, *paths: Path) -> str:
    """Run a command of the guide against the code in `paths`."""
    line = (
        list(words) if words[0] == "cp" else [sys.executable, *(words[1:] if words[0] == "python" else ["-m", *words])]
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run(line, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


def said(start: str) -> list[str]:
    """The one command of the guide that begins so."""
    (found,) = {tuple(words) for words in commands(GUIDE) if " ".join(words).startswith(start)}
    return list(found)


def test_nothing_in_the_guide_is_left_undone() -> None:
    done = ["python docs/generate.py", "pytest tests/contract", "cp ", "pip ", "herovlm "]
    assert all(any(" ".join(words).startswith(start) for start in done) for words in commands(GUIDE))
    assert {b.language for b in blocks(GUIDE) if not b.file} <= {"diff", *SHELL}


def test_the_files_keep_the_rules(copy: Path) -> None:
    files = [name for name in FILES if name and name.endswith(".py")]
    run(["ruff", "check", "--no-cache", *files], copy)
    run(["ruff", "format", "--no-cache", "--check", *files], copy)


def test_a_file_and_a_line_are_all_that_src_needs(copy: Path) -> None:
    theirs, ours = (
        {p.relative_to(root / "src"): p.read_bytes() for p in (root / "src").rglob("*.py")} for root in (copy, ROOT)
    )
    changed = {str(name) for name in theirs if theirs[name] != ours.get(name)}
    assert changed == {"herovlm/registry.py", "herovlm/methods/loudest.py", "herovlm/families/llava_next_video.py"}


def test_a_method_and_a_model_of_the_house(copy: Path) -> None:
    written = run(said("python docs/generate.py"), copy, copy / "src")
    assert "docs/methods/loudest.md" in written
    assert "| LLaVA-NeXT-Video |" in (copy / "README.md").read_text("utf-8")
    for folder in ("methods", "families"):
        passed = run(said(f"pytest tests/contract tests/{folder}"), copy, copy / "src")
        assert int(passed.rpartition(" passed")[0].split()[-1]) > 30, "the contract tests found it"


def test_a_method_in_a_package_of_its_own(copy: Path, tmp_path: Path) -> None:
    run(said("cp "), copy)
    run([*said("pip "), *OFFLINE, "--target", str(tmp_path)], copy)
    assert "loudest" in run(said("herovlm methods"), copy, SRC, tmp_path)
    need_demo_model()
    compared = run(said("herovlm compare"), copy, SRC, tmp_path)
    assert "loudest(p=1), keep 0.2" in compared
    assert (copy / "loudest.html").exists()
    assert "herovlm_loudest" in run(["python", "-c", WHERE], copy, SRC, tmp_path)


WHERE = "import herovlm; method = herovlm.parse('loudest(p=1.5)'); print(type(method).__module__, method)"
