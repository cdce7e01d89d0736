"""The one door for trained parts: by name or folder, one of a kind, and files that do not fit are one clear error."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
import tiny
import torch
from made_parts import made, written

import herovlm
from herovlm import modules


@pytest.fixture
def small(models: Any) -> tiny.Tiny:
    own: tiny.Tiny = models("llava_next")
    return own


def test_there_is_one_of_a_kind(small: tiny.Tiny, tmp_path: Path) -> None:
    folder = written(small.model, made(small.model), tmp_path / "mine")
    with (
        modules.attach(small.model, folder) as own,
        pytest.raises(herovlm.UnsupportedError, match="already"),
    ):
        modules.attach(small.model, folder)
    assert own.told == "mine (question read by the CLIP text tower)"
    with modules.attach(small.model, folder):
        assert len(modules.on(small.model)) == 1


def test_what_is_attached_keeps_no_model_alive(tmp_path: Path) -> None:
    small = tiny.make("llava")
    own, gone = modules.attach(small.model, written(small.model, made(small.model), tmp_path)), ref(small.model)
    del small
    gc.collect()
    assert gone() is None
    own.remove()


@pytest.mark.parametrize("name", ["", "nowhere", "a/b", None])
def test_an_unknown_name_says_which_there_are(small: tiny.Tiny, name: Any) -> None:
    with pytest.raises(herovlm.UsageError, match="there is no module"):
        modules.attach(small.model, name)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"kind": "soup"}, herovlm.SetupError, "'soup'"),
        ({"shapes": None}, herovlm.SetupError, "does not say"),
        ({"sentence": "a friend"}, herovlm.SetupError, "does not say"),
        ({"probes": [1.0] * 8}, herovlm.ModelError, "other weights"),
    ],
)
def test_cards_that_do_not_fit(small: tiny.Tiny, tmp_path: Path, change: Any, error: Any, match: str) -> None:
    folder = written(small.model, made(small.model), tmp_path / "mine", **change)
    with pytest.raises(error, match=match):
        modules.attach(small.model, folder)
    assert modules.on(small.model) == ()


@pytest.mark.parametrize(("name", "value"), [("depth", 12), ("channels", 160), ("llm", 256), ("feature_layer", -1)])
def test_a_model_of_another_shape_is_told(small: tiny.Tiny, tmp_path: Path, name: str, value: int) -> None:
    folder = written(small.model, made(small.model), tmp_path / "mine")
    card = json.loads((folder / modules.CARD).read_text("utf-8"))
    card["shapes"][name] = value
    (folder / modules.CARD).write_text(json.dumps(card), "utf-8")
    with pytest.raises(herovlm.ModelError, match=rf"{name} {value} \(here "):
        modules.attach(small.model, folder)


@pytest.mark.parametrize("broken", ["card", "weights", "lost"])
def test_broken_files_are_told(small: tiny.Tiny, tmp_path: Path, broken: str) -> None:
    folder = written(small.model, made(small.model), tmp_path / "mine")
    if broken == "lost":
        part = made(small.model)
        part.aggregator.linear = torch.nn.Linear(16, 3)
        written(small.model, part, folder)
    else:
        (folder / {"card": modules.CARD, "weights": "model.safetensors"}[broken]).write_text("{", "utf-8")
    with pytest.raises(herovlm.SetupError, match="mine"):
        modules.attach(small.model, folder)


def test_mpnet_is_named_where_it_is_missing(small: tiny.Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    folder = written(small.model, made(small.model), tmp_path / "mine", sentence="all-mpnet-base-v2")
    with pytest.raises(herovlm.MissingExtraError, match="'sentences'"):
        modules.attach(small.model, folder)


def test_what_comes_with_the_package_can_be_read() -> None:
    for name in modules.names():
        assert modules.read(modules.WEIGHTS / name).name == name
