"""The benchmark of examples in context, small: what is untouched has not moved, and the page prints what it says."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from scripts import run
from tree import ROOT


def test_it_runs_small_and_its_tables_have_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("benchmarks/caer.py", "--small", "--json", tmp_path / "caer.json")
    record = json.loads((tmp_path / "caer.json").read_text("utf-8"))
    assert {*record["retrieval"]} == {"both", "body", "surroundings"}
    full = record["budgets"]["full 1.0|1.0"]
    assert (full["divergence"], full["same_first"]["accuracy"], full["positions"]) == (0, 1, full["of"])
    for name, one in record["budgets"].items():
        assert one["of"] == full["of"]
        assert one["length"] - one["positions"] == full["length"] - full["positions"]
        assert (one["positions"] < full["positions"]) == (name != "full 1.0|1.0")
        assert one["divergence"] >= 0
    monkeypatch.syspath_prepend(ROOT / "docs")
    tables = importlib.import_module("incontext")
    rows = [line for line in tables.budgets(record) if line.startswith("| ")][1:]
    assert len(rows) == len(record["budgets"])
    assert len({line.count("|") for line in rows}) == 1
    assert sum(line.startswith("| ") for line in tables.found(record)) == 4
