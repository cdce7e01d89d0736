"""The benchmarks that choose defaults run small, go on where they were, and their tables say what was measured."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts import run
from tree import ROOT

from herovlm.demo import scenes


def measured(name: str, folder: Path, records: str) -> dict[str, Any]:
    file = folder / f"{name}.json"
    assert run(f"benchmarks/{name}.py", "--small", "--records", folder / records, "--json", file) == ""
    record: dict[str, Any] = json.loads(file.read_text("utf-8"))
    assert (record["benchmark"], record["small"]) == (name, True)
    return record


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("tuned")


def test_the_ablation_compares_scene_by_scene_and_goes_on(tmp_path: Path) -> None:
    first = measured("ablation", tmp_path, "records.jsonl")
    assert (first["split"], first["scenes"]) == ("development", 2)
    assert first["questions"] == sum(len(scenes.make(s).questions) for s in scenes.SPLITS["development"][:2])
    base = first["variations"]["hero_plus"]
    for name, by_keep in first["variations"].items():
        for keep, one in by_keep.items():
            low, high = one["interval95"]
            assert low <= one["accuracy"] <= high
            if name != "hero_plus":
                change = one["against"]["hero_plus"]["difference"]
                assert change == pytest.approx(one["accuracy"] - base[keep]["accuracy"], abs=0.11)
    lines = (tmp_path / "records.jsonl").read_text("utf-8").splitlines()
    (tmp_path / "records.jsonl").write_text(lines[0] + "\n", "utf-8")
    assert measured("ablation", tmp_path, "records.jsonl") == first


def test_auto_calibrates_on_one_split_and_is_tested_on_the_other(tmp_path: Path) -> None:
    result = measured("auto", tmp_path, "records")
    losses, each = zip(*result["curve"], strict=True)
    assert list(losses) == sorted(set(losses))
    assert list(each) == sorted(set(each), reverse=True)
    seen = {
        split: {json.loads(line)["scene"] for line in (tmp_path / f"records/{split}.jsonl").read_text().splitlines()}
        for split in ("development", "held-out")
    }
    assert all(found == set(scenes.SPLITS[split][:2]) for split, found in seen.items())
    keeps = [one["mean_keep"] for name, one in result["held_out"].items() if name.startswith("loss ")]
    assert keeps == sorted(keeps, reverse=True)
    assert all(0 < keep <= 1 for keep in keeps)


def made_up(difference: float, low: float, high: float) -> dict[str, Any]:
    against = {"hero_plus": {"difference": difference, "difference95": [low, high]}}
    return {"0.2": {"accuracy": 90.0 + difference, "against": against}}


@pytest.mark.parametrize(("low", "high", "expected"), [(-3.0, -1.0, "88.0 (**-2.0**)"), (-5.0, 1.0, "88.0 (-2.0)")])
def test_only_what_is_more_than_noise_is_bold(tuned: ModuleType, low: float, high: float, expected: str) -> None:
    base = {"0.2": {"accuracy": 90.0, "against": {}}}
    result = {
        "scenes": 5,
        "questions": 30,
        "full": 98.0,
        "variations": {"hero_plus": base, "alpha=1.0": made_up(-2.0, low, high)},
    }
    head, rule, first, second = tuned.ablation(result)[2:]
    assert head.count("|") == rule.count("|") == first.count("|") == second.count("|")
    assert first == "| `hero_plus` | as it is | 90.0 |"
    assert second == f"| `alpha` | `1.0` | {expected} |"


def test_a_promise_stands_beside_a_fixed_share_of_its_size(tuned: ModuleType) -> None:
    held_out = {
        "share 0.1": {"mean_keep": 0.1, "loss": 0.2},
        "share 0.3": {"mean_keep": 0.3, "loss": 0.1},
        "loss 0.15": {"mean_keep": 0.2, "loss": 0.12, "interval95": [0.08, 0.16]},
    }
    line = tuned.promises({"scenes": 7, "questions": 42, "held_out": held_out})[-1]
    assert line == "| 15 % | 12.0 % | 8.0 to 16.0 | 0.20 | 15.0 % |"
