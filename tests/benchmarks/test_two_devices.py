"""No benchmark mixes tensors of the host with those of the model: what a run on a GPU would trip over."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from devices import DeviceError, TwoDevices
from tree import ROOT

from herovlm.cost import shapes


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module


@pytest.fixture(scope="module")
def model() -> Any:
    pins = [[336, 336], [336, 672], [672, 672]]
    return shapes.build("small", llm_layers=1, dtype=torch.float32, image_grid_pinpoints=pins)


def test_what_a_gpu_refuses_is_refused_here() -> None:
    there = torch.zeros(3)
    with TwoDevices():
        here = torch.ones(3)
        assert here.device != there.device == torch.zeros_like(there).device
        for wrong in (lambda: there + here, lambda: torch.cat([there, here]), lambda: there.where(here > 0, 1.0)):
            with pytest.raises(DeviceError):
                wrong()
        with pytest.raises(DeviceError):
            there.numpy()
        assert (there + here.to(there.device)).sum() == 3
        assert (there + torch.ones(3, device=there.device) + torch.ones_like(there)).sum() == 6
        assert (there + torch.tensor(1.0)).tolist() == [1, 1, 1]
        assert here.numpy().sum() == there.cpu().numpy().sum() + 3


@pytest.mark.parametrize("name", ["signals", "narrow"])
def test_every_way_to_see(scripts: Any, model: Any, name: str) -> None:
    script: ModuleType = scripts(name)
    with torch.no_grad(), TwoDevices():
        for way, see in script.ways(model).items():
            if way != "authors":  # transformers' own code, slow on a CPU
                see()
