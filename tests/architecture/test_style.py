"""House style that a machine can check: linters clean, docstrings everywhere, no trace of anyone's machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sources import sources
from tree import ROOT, project_files

FROM_THE_CONFIG = {576, 24, 336, 22, 16}  # the numbers of one model; code asks the model
MACHINE = re.compile(r"(?<![\w.}>])/(?:home|root|work|workspace|mnt|media|srv|Users)/[\w.]|\b[A-Z]:\\\\?Users")


@pytest.mark.parametrize("tool", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_linters_are_content(tool: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_public_has_a_docstring() -> None:
    bare = [f"{s.name}" for s in sources() if s.text and not ast.get_docstring(s.tree)]
    for source in sources():
        for name, node in source.definitions():
            if not any(part.startswith(("_", "<")) for part in name.split(".")):
                doc = ast.get_docstring(node) or ""
                bare += [] if re.search(r"[.:?!)]$", doc.split("\n\n")[0].strip()) else [f"{source.name}.{name}"]
    assert bare == [], "no docstring, or one that does not begin with a sentence"


def test_a_docstring_names_a_thing_or_an_act_and_tells_nobody() -> None:
    chatty = [f"{s.name}.{n}" for s in sources() for n, node in s.definitions() if _told.match(_doc(node))]
    assert chatty == [], 'begin with a noun phrase or a plain verb ("Return the rows ..."), not with Say or Tell'


_told = re.compile(r"(?:Say|Tell)s?\b")


def _doc(node: ast.AST) -> str:
    return (ast.get_docstring(node) or "") if isinstance(node, ast.FunctionDef | ast.ClassDef) else ""


def test_there_is_no_assert_and_no_print() -> None:
    found = []
    for source in sources():
        for node in ast.walk(source.tree):
            printed = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            found += [f"{source.name}:{node.lineno}"] if printed or isinstance(node, ast.Assert) else []
    assert found == []


def test_no_number_comes_from_nowhere() -> None:
    found = []
    for source in sources():
        if source.part in {"api", "splice", "families", "towers", "methods", "ops", "types"}:
            code = [node for node in source.tree.body if not isinstance(node, ast.Assign | ast.AnnAssign)]  # no tables
            numbers = [node for top in code for node in ast.walk(top) if isinstance(node, ast.Constant)]
            found += [f"{source.name}:{n.lineno}: {n.value}" for n in numbers if n.value in FROM_THE_CONFIG]
    assert found == []


def test_no_path_of_a_machine_is_left() -> None:
    found = []
    for path in project_files():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        own = [place for place in (f"{ROOT}/", f"{Path.home()}/") if len(place) > 2 and place in text]
        found += [f"{path.relative_to(ROOT)}: {hit}" for hit in own + MACHINE.findall(text)]
    assert found == []
