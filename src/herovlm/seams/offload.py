"""Modules whose weights accelerate keeps elsewhere ("cpu", "disk") and brings when they run: never ask the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def home(module: nn.Module) -> torch.device:
    """Return the device on which a module wants its inputs: where its first weights are, or where they are brought."""
    for part in module.modules():
        weight = next(part.parameters(recurse=False), None)
        if weight is None:
            continue
        hook: Any = getattr(part, "_hf_hook", None)
        places = [getattr(one, "execution_device", None) for one in getattr(hook, "hooks", [hook])]
        brought = next((place for place in places if place is not None), None)
        return weight.device if not weight.is_meta or brought is None else torch.device(brought)
    return torch.device("cpu")


def beside(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor on a device; one that is there already is handed on untouched.

    The host does not wait for what it sends to CUDA, which has its own queue and has copied the memory by then.
    """
    if tensor.device == device:
        return tensor
    return tensor.to(device, non_blocking=tensor.device.type == "cpu" and device.type == "cuda")


@contextmanager
def brought(module: nn.Module) -> Iterator[None]:
    """Have a module's own weights (not those of its parts) in place while the body runs, as its forward would."""
    hook: Any = getattr(module, "_hf_hook", None)
    if hook is None:
        yield
        return
    hook.pre_forward(module)
    try:
        yield
    finally:
        hook.post_forward(module, None)
