"""The benchmark of `age_vlm` runs small, and its page prints what it found."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from scripts import run
from tree import ROOT, need_demo_model

from herovlm.modules import stored


def test_every_way_is_judged_on_the_same_questions(tmp_path: Path) -> None:
    need_demo_model()
    how = ("--small", "--control", stored.folder_of("age_vlm"), "--records", tmp_path, "--json", tmp_path / "a.json")
    run("benchmarks/age_vlm.py", *how)
    found = json.loads((tmp_path / "a.json").read_text("utf-8"))
    groups = [f"{method}@{keep}" for method in ("hero", "hero_plus") for keep in (0.1, 0.05)]
    ways = ["full@1.0 plain", *(f"{group} {way}" for group in groups for way in ("plain", "control", "memory"))]
    assert list(found["results"]) == ways
    lines = [json.loads(line) for line in (tmp_path / "held-out.jsonl").read_text().splitlines()]
    assert [line["scene"] for line in lines] == [0, 1]
    for line in lines:
        for group in groups:
            plain, control, memory = (line["judged"][f"{group} {way}"] for way in ("plain", "control", "memory"))
            assert plain["positions"] == control["positions"] == memory["positions"]
            assert plain["tokens"] == [0] * len(line["kinds"])
            sizes = zip(control["tokens"], plain["positions"], memory["tokens"], strict=True)
            assert all(0 < few <= kept < many for few, kept, many in sizes)
    for name, own in found["differences"].items():
        ours, theirs = name.split(" - ")
        theirs = f"{ours.split()[0]} {theirs}"
        apart = found["results"][ours]["all"]["accuracy"] - found["results"][theirs]["all"]["accuracy"]
        assert own["all"]["difference"] == pytest.approx(apart, abs=0.02)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        page = "\n".join(importlib.import_module("recalled").recalled(found))
    assert page.count("| `hero@0.05`") == 3
    assert f"{found['bytes']['parameters']:,} parameters" in page
