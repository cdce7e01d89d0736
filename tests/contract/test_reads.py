"""Between see and generate the host reads next to nothing back, and little is done beyond the plain tower's work.

Counted, not timed, and without a GPU: every tensor that stems from weights, pixels or token ids is on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch

import herovlm
from herovlm import registry, spec
from herovlm.cost import traffic

SIZES = ((60, 31), (60, 20), (20, 60), (60, 31))  # of the pictures of a batch
EXACT = [name for name in registry.METHODS if spec.parse(name).exact]
READS = {"hero": 3}  # at the most, for any number of images; 5 for every other method that spends its budget exactly
OPERATIONS = {("hero", 1): 80, ("hero", 4): 160}  # (method, images) -> at the most beyond the tower
OPERATIONS |= {(name, 1): 60 for name in ("vtc_cls", "globalcom2", "fastervlm", "uniform", "random")}


def prompts(small: tiny.Tiny, images: int, mixed: bool = True) -> dict[str, torch.Tensor]:
    """One picture a prompt; of several shapes, or of one."""
    pictures = [[tiny.picture(*SIZES[i * mixed], seed=i)] for i in range(images)]
    given = small.inputs(pictures, ["USER: <image>\nWhat is it? ASSISTANT:"] * images)
    return {name: value for name, value in given.items() if isinstance(value, torch.Tensor)}


def counted(small: tiny.Tiny, inputs: dict[str, torch.Tensor], run: Callable[[], object]) -> traffic.Traffic:
    """Count the second run: what may be remembered is."""
    run()
    with torch.no_grad(), traffic.counted(traffic.roots(small.model, inputs)) as found:
        run()
    return found


def drop(small: tiny.Tiny, inputs: dict[str, torch.Tensor], method: str) -> traffic.Traffic:
    how: Any = {"method": method, "keep": 0.2, "processor": small.processor}
    return counted(small, inputs, lambda: herovlm.drop(small.model, inputs, **how))


def tower(small: tiny.Tiny, inputs: dict[str, torch.Tensor]) -> traffic.Traffic:
    vision = {name: inputs[name] for name in ("pixel_values", "image_sizes") if name in inputs}
    look = small.model.base_model.get_image_features
    return counted(small, inputs, lambda: look(**vision, return_dict=True))


@pytest.mark.parametrize(("method", "images"), [(n, i) for n in EXACT for i in (1, 4)])
def test_the_host_reads_next_to_nothing_back(models: Callable[..., Any], method: str, images: int) -> None:
    for family in tiny.FAMILIES if images > 1 else ("llava_next",):
        small = models(family)
        found = drop(small, prompts(small, images), method)
        assert found.waits <= READS.get(method, 5), (family, found.reads)


@pytest.mark.parametrize(("method", "images"), [*OPERATIONS])
def test_little_is_done_beyond_the_tower(models: Callable[..., Any], method: str, images: int) -> None:
    small = models("llava_next")
    inputs = prompts(small, images, mixed=False)
    assert drop(small, inputs, method).operations - tower(small, inputs).operations <= OPERATIONS[method, images]
