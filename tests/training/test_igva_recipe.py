"""IGVA's recipe starts at the plain model, trains what it says and nothing else, and what it writes can be measured."""

from __future__ import annotations

import importlib
import itertools
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from scripts import run
from tree import ROOT, need_demo_model

from herovlm import demo, modules
from training.igva import export, stage, train


@torch.no_grad()
def test_the_first_step_has_the_loss_of_the_plain_model() -> None:
    need_demo_model()
    model, processor = demo.load()
    (rows,) = itertools.islice(stage.batches(1, pictures=1), 1)
    plain, fused = stage.Plain(model, processor)(rows), stage.Fused(model, processor, 128)(rows)
    assert rows.keep == stage.DROPPED
    assert fused[1]["answers@0.2"] == pytest.approx(plain[1]["answers@0.2"], abs=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_demo_model()
    out: Path = tmp_path_factory.mktemp("igva")
    for steps in (1, 2):  # and goes on
        train.main(["--out", str(out), "--steps", str(steps), "--pictures", "1"])
    return out


def test_it_trains_the_projector_and_the_aggregator_and_goes_on(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text("utf-8").splitlines()]
    assert {(line["stage"], line["step"]) for line in lines} >= {("plain", 2), ("fused", 2)}
    own, _ = demo.load()
    before = own.state_dict()
    for kind, name in (("plain", "model.multi_modal_projector"), ("fused", "fusion.")):
        state = torch.load(trained / kind / "last.pt", weights_only=True)["model"]
        after = {key.removeprefix("llava."): value for key, value in state.items()}
        changed = {key for key, value in before.items() if not torch.equal(after[key], value)}
        assert all(key.startswith("model.multi_modal_projector") for key in changed)
        assert bool(changed) == (kind == "plain"), name
    values = load_file(trained / "igva/model.safetensors")
    assert values["projector.linear_1.weight"][:, 160:].abs().max() > 0, "the mixed half has begun to count"


def test_what_it_writes_can_be_attached_and_measured(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = demo.load()
    with modules.attach(model, trained / "igva") as own:
        assert own.card.fields["training"].startswith("training/igva: 2 steps")
    file = trained / "igva.json"
    told = ("--small", "--trained", trained, "--records", trained / "scenes.jsonl", "--json", file)
    run("benchmarks/igva.py", *told)
    found = json.loads(file.read_text("utf-8"))
    assert found["questions"] == 12
    for by_kind in found["results"].values():
        for one in by_kind.values():
            low, high = one["igva"]["interval95"]
            assert low <= one["igva"]["accuracy"] <= high
            change = one["igva"]["accuracy"] - one["control"]["accuracy"]
            assert one["igva - control"]["difference"] == pytest.approx(change, abs=0.11)
    for one in found["weights"].values():
        assert sum(one["mean"]) == pytest.approx(1, abs=0.01)
    monkeypatch.syspath_prepend(ROOT / "docs")
    tables: ModuleType = importlib.import_module("fused")
    assert len(tables.weights(found)) == 2 + 5
    assert sum(line.startswith("| fine") for line in tables.accuracy(found)) == 2


def test_a_projector_is_saved_in_bfloat16(tmp_path: Path) -> None:
    export.put(tmp_path / "a/b.safetensors", torch.nn.Linear(2, 2))
    assert load_file(tmp_path / "a/b.safetensors")["weight"].dtype == torch.bfloat16
