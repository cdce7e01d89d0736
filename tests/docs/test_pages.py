"""What the pages say is true: their code runs, their commands work, their links lead somewhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import SHELL, Block, blocks, commands, links, pages, title
from tree import ROOT, need_demo_model

import herovlm
from herovlm.cli import options

WALKED = ROOT / "CONTRIBUTING.md"  # test_walkthroughs.py does what it says
HARNESSES = ROOT / "docs/benchmarks.md"  # test_benchmarks.py runs its code
ELSEWHERE = {  # commands that are run by other means
    "lmms-eval": "test_benchmarks.py reads its arguments; tests/eval/test_lmms_run.py runs it on a task of its own",
    "pip": "the wheel test and the CI script install the package",
    "pytest": "you are looking at it",
    "ruff": "tests/architecture runs it",
    "mypy": "tests/architecture runs it",
    "python": "a script of the project: it must exist; its own tests run it",
}
RUNNER = Path(__file__).parent / "run_commands.py"

WITH_CODE = [p for p in pages() if p not in (WALKED, HARNESSES) and any(b.language == "python" for b in blocks(p))]
ALIKE = {
    p for p in (ROOT / "docs/methods").glob("*.md") if p.stem not in ("README", "hero", "fastv")
}  # of one template
TYPED = [words for p in pages() if p != WALKED and p not in ALIKE for words in commands(p) if words[0] == "herovlm"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a reader has before them: the folder of the project, without its code."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    return tmp_path


def test_the_pages_are_short() -> None:
    limits = {"README.md": 200, "AGENTS.md": 60}
    for name, limit in limits.items():
        assert len((ROOT / name).read_text("utf-8").splitlines()) <= limit, name


@pytest.mark.parametrize("page", pages(), ids=title)
def test_links_lead_somewhere(page: Path) -> None:
    assert [link for link in links(page) if not (page.parent / link.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("page", pages(), ids=title)
def test_fences_are_closed_and_say_their_language(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text.count("\n```") + text.startswith("```") == 2 * len(blocks(page))
    assert {block.language for block in blocks(page)} <= {*SHELL, "python", "toml", "text", "diff", "json", "bibtex"}


@pytest.mark.parametrize("page", WITH_CODE, ids=title)
@pytest.mark.usefixtures("folder")
def test_python_runs(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_demo_model()
    monkeypatch.chdir(folder)
    names: dict[str, object] = {"__name__": title(page)}
    for block in blocks(page):
        if block.language == "python":
            code = "\n" * (block.line - 1) + block.text  # errors name the line of the page
            exec(compile(code, page, "exec"), names)


@pytest.mark.parametrize("page", [page for page in pages() if page != WALKED], ids=title)
def test_every_command_is_run_somewhere(page: Path) -> None:
    for words in commands(page):
        assert words[0] == "herovlm" or words[0] in ELSEWHERE, f"who knows that {words[0]} works?"
        assert words[0] != "python" or (ROOT / words[1]).exists()


def test_commands_work(folder: Path) -> None:
    """All in one process, which loads the libraries once; the wheel test runs the script itself.

    The pages of methods ask for the same with another method: two of them are taken, and "--methods all" runs the rest.
    """
    need_demo_model()
    done = subprocess.run([sys.executable, RUNNER, json.dumps(TYPED)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    asked_for = {name for words in TYPED for name in words if name.endswith(".html")}
    assert asked_for <= {path.name for path in folder.glob("*.html")}


def test_every_method_is_run() -> None:
    (everywhere,) = [words for words in TYPED if words[1] == "compare" and "all" in words]
    asked = {
        one for page in ALIKE for words in commands(page) for one in words[words.index("--methods") + 1].split(",")
    }
    assert asked <= {*options.methods_of("all")}
    assert everywhere[2:4] == next(words[2:4] for page in ALIKE for words in commands(page))


def test_there_is_something_to_run() -> None:
    assert {words[1] for words in TYPED} == {
        "demo",
        "ask",
        "compare",
        "bench",
        "eval",
        "icl",
        "report",
        "study",
        "methods",
        "models",
    }
    assert ROOT / "README.md" in WITH_CODE


def test_the_readme_sets_up_a_fresh_machine_and_ci_does_as_it_says() -> None:
    readme, ci = ((ROOT / name).read_text("utf-8") for name in ("README.md", ".ci/run"))
    tested = "pip install -c constraints.txt -e '.[test]' && pytest -n auto"
    assert "pip install -c constraints.txt . && herovlm demo" in readme
    assert tested in readme
    assert tested in ci.replace(" --quiet", "")


def test_one_version_everywhere() -> None:
    version = herovlm.__version__
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_commands_are_read_as_a_shell_reads_them() -> None:
    block = Block(Path(), 1, "bash", 'herovlm ask a.png \\\n  "what is it?"  # ask\n\npip install . && herovlm demo\n')
    asked = ["herovlm", "ask", "a.png", "what is it?"]
    assert list(block.commands()) == [asked, ["pip", "install", "."], ["herovlm", "demo"]]
    block = Block(Path(), 1, "console", "$ herovlm methods\nhero  HERO\n")
    assert list(block.commands()) == [["herovlm", "methods"]]
