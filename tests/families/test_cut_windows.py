"""How many windows a picture is cut into, or how large they are, is a field of the model's config."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import tiny_models
import torch

import herovlm
from herovlm.families import packing

KINDS = [kind for kind in ("qwen2_5_vl", "qwen3_vl", "mistral3") if kind in tiny_models.here()]
METHOD = "hero(signal=received)"


def shape(rows: int, columns: int, multiple: int = 1, **fields: Any) -> tuple[int, int, int]:
    """Rows and columns of windows, and positions on a side of one."""
    grid = packing.windowed(SimpleNamespace(**fields), rows, columns, multiple).grid
    return (*grid.tiles, grid.side)


def test_number_and_size_are_what_is_asked_for() -> None:
    assert shape(30, 30) == shape(30, 30, herovlm_windows=9) == (3, 3, 10)
    assert shape(30, 30, herovlm_windows=4) == (2, 2, 15)
    assert shape(30, 20, herovlm_windows=1) == (1, 1, 30)
    assert shape(30, 20, herovlm_window_side=8) == shape(30, 20, herovlm_window_side=8, herovlm_windows=2) == (4, 3, 8)
    assert shape(30, 20, herovlm_window_side=99) == (1, 1, 30)
    assert shape(32, 32, 4, herovlm_window_side=6) == shape(32, 32, 4, herovlm_windows=16) == (4, 4, 8)


@pytest.mark.parametrize("name", ["herovlm_windows", "herovlm_window_side"])
@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, "9"])
def test_what_is_no_number_of_windows_is_named(name: str, wrong: Any) -> None:
    with pytest.raises(herovlm.UsageError, match=rf"model\.config\.{name}=.* whole number from 1 on"):
        shape(4, 4, **{name: wrong})


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_read_in_the_windows_of_its_config(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny_models.load(kind)
    inputs = made.inputs([[tiny.picture(128, 97)]])
    whole = made.count(inputs)[0]
    for fields, tiles in (({"herovlm_windows": 1}, 1), ({"herovlm_window_side": 4}, None), ({}, None)):
        config = copy.copy(made.model.config)
        for name, value in fields.items():
            monkeypatch.setattr(made.model.config, name, value, raising=False)
            setattr(config, name, value)
        short = herovlm.drop(made.model, inputs, method=METHOD, keep=0.3)
        (seen,) = short.seen
        assert tiles is None or len(seen.valid) == tiles
        assert fields.get("herovlm_window_side") in (None, seen.grid.side)
        assert int(seen.valid.sum()) == whole
        assert torch.equal(seen.slots, torch.arange(len(seen.slots))) or len(seen.valid) > 1
        asked = herovlm.Request.of(METHOD, keep=0.3)
        assert made.count(short)[0] == herovlm.token_count(config, (97, 128), asked)
        monkeypatch.undo()
