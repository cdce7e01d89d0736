"""LoRA put on a model: what transformers' own loader makes of the same files, and no trace afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import herovlm
from herovlm import modules
from herovlm.modules import lora

LAYER = "model.language_model.layers.0.self_attn.q_proj"


def written(model: Any, folder: Path, **config: Any) -> Path:
    """Write an adapter of one layer."""
    out, into = model.get_submodule(LAYER).weight.shape
    folder.mkdir()
    draw = torch.Generator().manual_seed(0)
    name = f"base_model.model.{LAYER}.lora_"
    values = {f"{name}A.weight": torch.randn(4, into, generator=draw) / 8}
    values |= {f"{name}B.weight": torch.randn(out, 4, generator=draw) / 8}
    save_file(values, folder / "adapter_model.safetensors")
    plain = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "task_type": None}
    (folder / "adapter_config.json").write_text(json.dumps(plain | config), "utf-8")
    (folder / "module.json").write_text(json.dumps({"kind": "lora", "name": "mine"}), "utf-8")
    return folder


def test_the_update_is_scaled_and_goes_without_a_trace(models: Any, tmp_path: Path) -> None:
    model = models("llava_next").model
    folder, weight = written(model, tmp_path / "mine"), model.get_submodule(LAYER).weight
    before = weight.detach().clone()
    (update,) = lora.updates(folder).values()
    with modules.attach(model, folder):
        changed = weight.detach() - before
        assert changed.abs().max() > 1e-3
    assert torch.equal(weight, before)
    assert modules.on(model) == ()
    assert torch.allclose(changed, update, atol=1e-6)


def test_it_is_what_transformers_loads(models: Any, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    made = models("llava_next")
    folder = written(made.model, tmp_path / "mine")
    ids = torch.tensor([[5, 6, 7, 8]])
    with modules.attach(made.model, folder), torch.no_grad():
        ours = made.model(input_ids=ids).logits
    other = type(made.model)(made.model.config).eval()
    other.load_state_dict(made.model.state_dict())
    other.load_adapter(str(folder))
    with torch.no_grad():
        assert torch.allclose(other(input_ids=ids).logits, ours, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"r": 0}, "cannot be read"),
        ({"use_dora": True}, "not plain LoRA"),
        ({"bias": "all"}, "not plain LoRA"),
        ({"peft_type": "IA3"}, "not plain LoRA"),
    ],
)
def test_files_that_are_something_else(models: Any, tmp_path: Path, change: Any, match: str) -> None:
    model = models("llava_next").model
    with pytest.raises(herovlm.SetupError, match=match):
        modules.attach(model, written(model, tmp_path / "mine", **change))


def test_broken_weights_and_other_models(models: Any, tmp_path: Path) -> None:
    model = models("llava_next").model
    folder = written(model, tmp_path / "mine")
    save_file({f"base_model.model.{LAYER}.lora_A.weight": torch.ones(4, 3)}, folder / "adapter_model.safetensors")
    with pytest.raises(herovlm.SetupError, match="no pairs"):
        modules.attach(model, folder)
    names = [f"base_model.model.{layer}.lora_" for layer in (LAYER, "model.nowhere")]
    for name, match in zip(names, ("another model", "has no model.nowhere"), strict=True):
        save_file(
            {f"{name}A.weight": torch.ones(4, 3), f"{name}B.weight": torch.ones(5, 4)},
            folder / "adapter_model.safetensors",
        )
        with pytest.raises(herovlm.ModelError, match=match):
            modules.attach(model, folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(herovlm.SetupError, match="cannot be read"):
        modules.attach(model, folder)
    assert modules.on(model) == ()
