"""Between see and generate the host reads next to nothing back, and little is done beyond the plain tower's work.

Counted, not timed, and without a GPU: every tensor that stems from weights, pixels or token ids is on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import tiny_models
import torch

import herovlm
from herovlm import registry, spec
from herovlm.cli.models import offered
from herovlm.cost import traffic

SIZES = ((60, 31), (60, 20), (20, 60), (60, 31))  # of the pictures of a batch
EXACT = [name for name in registry.METHODS if spec.parse(name).exact]
READS = {"hero": 3}  # at the most, for any number of images; 5 for every other method that spends its budget exactly
OPERATIONS = {("hero", 1): 80, ("hero", 4): 160}  # (method, images) -> at the most beyond the tower
OPERATIONS |= {(name, 1): 60 for name in ("vtc_cls", "globalcom2", "fastervlm", "uniform", "random")}
OTHERS = {  # model type -> beyond the tower for `hero` as it is written there: reads, operations for 1 and for 4 images
    "internvl": (2, 75, 110),
    "llava_onevision": (3, 95, 145),
    "qwen2_5_vl": (2, 115, 155),  # attention received, in windows of several lengths
    "qwen3_vl": (2, 60, 115),
    "qwen3_5": (2, 50, 95),
    "idefics3": (1, 105, 145),
    "smolvlm": (1, 105, 145),
    "gemma3": (1, 50, 70),
    "mistral3": (2, 110, 175),  # each picture has its attention to itself
}


def prompts(small: tiny.Tiny, images: int, mixed: bool = True) -> dict[str, torch.Tensor]:
    """One picture a prompt; of several shapes, or of one."""
    pictures = [[tiny.picture(*SIZES[i * mixed], seed=i)] for i in range(images)]
    given = small.inputs(pictures, ["USER: <image>\nWhat is it? ASSISTANT:"] * images)
    return {name: value for name, value in given.items() if isinstance(value, torch.Tensor)}


def counted(small: Any, inputs: dict[str, torch.Tensor], run: Callable[[], object]) -> traffic.Traffic:
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


def test_every_family_has_bounds() -> None:
    modules = {where: kind for kind, where in reversed(registry.FAMILIES.items())}  # of twins the first
    assert set(modules.values()) - {"llava", "llava_next", "qwen2_vl"} == set(OTHERS)


@pytest.mark.parametrize("images", [1, 4])
@pytest.mark.parametrize("kind", [kind for kind in OTHERS if kind in tiny_models.here()])
def test_other_families_keep_to_their_bounds(kind: str, images: int) -> None:
    made = tiny_models.load(kind)
    inputs = dict(made.inputs([[tiny.picture(100, 64, seed=i)] for i in range(images)]))
    family, model, how = registry.family(made.model), made.model, offered(made.model).get("hero", "hero(alpha=1)")
    vision = {name: value for name, value in family.checked(model, inputs).items() if name in family.vision}
    tower = counted(made, inputs, lambda: model.base_model.get_image_features(**vision, return_dict=True))
    whole = counted(made, inputs, lambda: herovlm.drop(model, inputs, method=how, keep=0.3))
    reads, *operations = OTHERS[kind]
    assert whole.waits - tower.waits <= reads, (whole.reads, tower.reads)
    assert whole.operations - tower.operations <= operations[images > 1]
