"""LoRA on a model: low-rank updates added to its weights while a module is attached; the files are peft's own.

`model.load_adapter(folder)` of transformers reads the same folder; merged, there is nothing that a call has to go
through, and nothing is left when the module is removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from herovlm import modules
from herovlm.errors import ModelError, SetupError, UnsupportedError, reason

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"


@torch.no_grad()
def join(model: PreTrainedModel, folder: Path, card: Mapping[str, Any]) -> tuple[Callable[[], None], None]:
    """Add the updates of a folder to the weights that they name; return how to put the old ones back.

    Raises:
        SetupError: its files are broken, or not what plain LoRA is.
        ModelError: the model has no such weights, or they have another shape.
        UnsupportedError: they are quantised, or not in memory.
    """
    found: list[tuple[nn.Parameter, Tensor]] = []
    for name, update in updates(folder).items():
        weight = _weight(model, name, update)
        found.append((weight, update))
    before = [weight.detach().clone() for weight, _ in found]
    for weight, update in found:
        weight.copy_((weight.float() + update.to(weight.device)).to(weight.dtype))

    def undo() -> None:
        with torch.no_grad():
            for (weight, _), old in zip(found, before, strict=True):
                weight.copy_(old)

    return undo, None


def updates(folder: Path) -> dict[str, Tensor]:
    """Read the updates scale * B A of a folder by the name of the weight's layer, each (out, in) float32.

    Raises:
        SetupError: its files are broken, or not what plain LoRA is.
    """
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        scale = float(config["lora_alpha"]) / float(config["r"])
        plain = config["peft_type"] == "LORA" and not any(config.get(name) for name in ("use_rslora", "use_dora"))
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise SetupError(f"{folder / CONFIG} cannot be read ({reason(error)}); get its files again") from error
    if not plain or config.get("bias", "none") != "none":
        raise SetupError(f"{folder / CONFIG} is not plain LoRA, which is all that is read here; use peft itself")
    values = modules.weights(folder, FILE)
    halves: dict[str, dict[str, Tensor]] = {}
    for name, value in values.items():
        layer, _, half = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".lora_")
        halves.setdefault(layer, {})[half] = value.float()
    try:
        return {layer: scale * own["B"] @ own["A"] for layer, own in halves.items()}
    except (KeyError, RuntimeError) as error:
        raise SetupError(f"{folder / FILE} holds no pairs of LoRA weights ({reason(error)})") from error


def _weight(model: PreTrainedModel, name: str, update: Tensor) -> nn.Parameter:
    """Find the weight of a layer that an update fits."""
    try:
        weight: Any = model.get_submodule(name).weight
    except AttributeError as error:
        raise ModelError(f"this module was made for another model: {type(model).__name__} has no {name}") from error
    if weight.is_meta or not weight.is_floating_point():
        raise UnsupportedError(f"{name} is quantised or not in memory; load the model as it is to attach LoRA to it")
    if weight.shape != update.shape:
        raise ModelError(
            f"this module was made for another model: {name} is {tuple(weight.shape)}, it has {tuple(update.shape)}"
        )
    found: nn.Parameter = weight
    return found
