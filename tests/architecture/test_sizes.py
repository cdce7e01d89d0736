"""A file has one idea, so it is short; and what is written is tested."""

from __future__ import annotations

from statistics import median

from sources import lines_under, sources
from tree import ROOT, SRC

FILE, METHOD, FUNCTION, MEDIAN = 400, 120, 50, 120  # lines
TESTS_PER_CODE = 0.9


def test_files_are_short() -> None:
    assert {s.name: s.lines for s in sources() if s.lines > FILE} == {}


def test_most_files_are_shorter() -> None:
    assert median(s.lines for s in sources() if s.lines) <= MEDIAN


def test_methods_are_short() -> None:
    assert {s.name: s.lines for s in sources() if s.part == "methods" and s.lines > METHOD} == {}


def test_functions_are_short() -> None:
    lengths = {
        f"{source.name}.{name}": (node.end_lineno or 0) - node.lineno + 1
        for source in sources()
        for name, node in source.definitions()
        if not hasattr(node, "bases")
    }
    assert len(lengths) > 100
    assert {name: length for name, length in lengths.items() if length > FUNCTION} == {}


def test_tests_are_nearly_as_long_as_the_code() -> None:
    assert lines_under(ROOT / "tests") >= TESTS_PER_CODE * lines_under(SRC)
