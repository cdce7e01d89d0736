"""The marks of the tests: given by path, so the paths must lead somewhere and files must be told apart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import conftest
import pytest
from tree import ROOT

TESTS = ROOT / "tests"


@pytest.mark.parametrize("place", sorted({place for places in conftest.MARKED.values() for place in places}))
def test_every_marked_path_has_tests(place: str) -> None:
    assert [*TESTS.glob(f"{place}test_*.py" if place.endswith("/") else f"{place}*.py")]


def test_no_two_files_share_a_name() -> None:
    names = Counter(Path(path).name for path in TESTS.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == [], "pytest would take one for the other"


def test_no_module_is_called_as_a_folder() -> None:
    folders = {path.name for path in TESTS.iterdir() if path.is_dir()}
    assert [path for path in TESTS.rglob("*.py") if path.stem in folders] == [], "Python would import the folder"
