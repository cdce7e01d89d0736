"""The benchmark of crops against more tokens: boxes in the right frame, and it runs small."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
from scripts import run
from tree import ROOT

from herovlm.demo import scenes
from herovlm.ops import region


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("chain_of_spot")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pictures", ["as drawn", "twice as large"])
def test_the_square_around_a_thing_holds_its_label_and_is_a_tile(script: ModuleType, seed: int, pictures: str) -> None:
    scene = script.scene_of(seed, pictures)
    question, item = script.asked(scene)
    assert question.answer == item.text
    left, top, right, bottom = scenes.around(item, scene.image.size)
    assert (right - left, bottom - top) == (192, 192)
    assert 0 <= left <= item.label_box[0] < item.label_box[2] <= right <= scene.image.width
    assert 0 <= top <= item.label_box[1] < item.label_box[3] <= bottom <= scene.image.height
    box = script.shares((left, top, right, bottom), scene.image.size)
    side = max(scene.image.size)
    across, down = (side - scene.image.width) // 2, (side - scene.image.height) // 2
    assert region.pixels(box, side) == (left + across, top + down, right + across, bottom + down)


def test_it_runs_small(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    run("benchmarks/chain_of_spot.py", "--small", "--records", tmp_path / "records", "--json", file)
    record = json.loads(file.read_text("utf-8"))
    assert (record["benchmark"], record["small"], record["scenes"]) == ("chain_of_spot", True, 2)
    for ways in record["results"].values():
        crops = [one for way, one in ways.items() if "chain_of_spot" in way]
        assert {one["passes"] for one in ways.values()} <= {1, 2}
        assert all(one["hit"] in (0, 50, 100) and 0 <= one["iou"] <= 1 for one in crops)
        assert ways["full@1.0"]["positions"] > min(one["positions"] for one in crops)
