"""The benchmark of existence questions asks what it says it asks, counts rightly, and runs small."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from scripts import run
from tree import ROOT

from herovlm.demo import scenes


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("second")


def test_what_is_asked_about_is_absent_by_its_sort(script: ModuleType) -> None:
    alone, both = Counter({"red star": 9, "blue ring": 8, "cyan heart": 7}), Counter[tuple[str, str]]()
    for seed in range(4):
        scene = scenes.make(seed)
        names = {item.name for item in scene.items}
        both.clear()
        both.update({(name, "black cross"): 5 for name in names})
        asked = script.asked(scene, alone, both)
        assert asked == script.asked(scene, alone, both)
        assert asked["there"] in names
        assert not {*asked.values()} & names - {asked["there"]}
        assert asked["frequent"] == next(name for name, _ in alone.most_common() if name not in names)
        if "black cross" not in names:
            assert asked["co-occurring"] == "black cross"
        colour, shape = asked["both parts there"].split()
        assert colour in {name.split()[0] for name in names}
        assert shape in {name.split()[1] for name in names}


def test_each_sort_is_paired_with_what_is_there(script: ModuleType) -> None:
    line = {"scene": 0, "full": [[True, 5, 1], [False, 5, 1], [True, 5, 1], [False, 5, 1], [False, 5, 1]]}
    assert script.counts(line, "full", script.SORTS) == [4, 1, 0, 3]
    assert script.counts(line, "full", ("frequent",)) == [1, 1, 0, 0]
    found = script.summary([line, {**line, "scene": 1}], "full", "full")
    assert (found["positions"], found["passes"]) == (5, 1)
    every = found["sorts"]["all"]
    assert (every["accuracy"], every["yes"], every["false_yes"]) == (87.5, 62.5, 25)
    assert every["f1"] == pytest.approx(100 * 8 / 9, abs=0.1)
    assert every["difference"] == 0


def test_it_runs_small_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, records = tmp_path / "a.json", tmp_path / "records.jsonl"
    assert run("benchmarks/second.py", "--small", "--records", records, "--json", file) == ""
    found = json.loads(file.read_text("utf-8"))
    assert (found["benchmark"], found["small"], found["scenes"]) == ("second", True, 1)
    assert found["results"]["second"]["passes"] == 7
    assert len(records.read_text("utf-8").splitlines()) == 1
    monkeypatch.syspath_prepend(ROOT / "docs")
    tables = importlib.import_module("contrasted").BLOCKS
    assert all(sum("`full`" in line for line in table(found)) >= 2 for table in tables.values())
