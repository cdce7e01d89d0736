"""What is recorded of Qwen's towers is what their own eager attention is, block by block."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import tiny
import tiny_models
import torch
from torch import Tensor

from herovlm.towers import qwen_vit
from herovlm.towers.qwen_vit import QwenVit
from herovlm.types import Needs

TOWERS = [name for name in ("qwen2_5_vl", "qwen3_vl", "qwen3_5") if name in tiny_models.here()]
PICTURES = [[tiny.picture(100, 64, 1), tiny.picture(33, 61, 2)], [tiny.picture(100, 64, 3)]]


def seen(name: str, needs: Needs) -> tuple[Any, Any]:
    made = tiny_models.load(name)
    inputs = made.inputs(PICTURES)
    with QwenVit().reading(made.model.model.visual, needs, 4) as found:
        made.features(inputs)
    return found, inputs


def order(name: str, inputs: Any) -> Tensor:
    """Which patch of the pictures each of the tower's order is: window by window, group by group."""
    vision = tiny_models.load(name).model.config.vision_config
    side = getattr(vision, "window_size", 0) // (2 * vision.patch_size)
    groups: list[int] = []
    start = 0
    for _, high, wide in inputs["image_grid_thw"].tolist():
        rows, cols = high // 2, wide // 2
        cells = [(y, x) for y in range(rows) for x in range(cols)]
        if side:
            cells.sort(key=lambda at: (at[0] // side, at[1] // side, at[0], at[1]))
        groups += [start + y * cols + x for y, x in cells]
        start += rows * cols
    return torch.tensor([4 * group + i for group in groups for i in range(4)])


def eager(name: str, inputs: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Tensor], list[Tensor]]:
    """What the eager attention of the untouched tower gives each patch, block by block, in the order of patches; and
    the keys that it reads."""
    made = tiny_models.load(name)
    tower = made.model.model.visual
    module: Any = sys.modules[type(tower).__module__]
    plain, maps = module.eager_attention_forward, []

    def recorded(attention: Any, *args: Any, **kwargs: Any) -> Any:
        output, weights = plain(attention, *args, **kwargs)
        maps.append((attention, weights, args[1]))
        return output, weights

    monkeypatch.setattr(module, "eager_attention_forward", recorded)
    monkeypatch.setattr(tower.config, "_attn_implementation", "eager")
    made.features(inputs)
    monkeypatch.undo()
    found, keys, there = [], [], order(name, inputs)
    for block in tower.blocks:
        mine = [(weights[0], key[0]) for attention, weights, key in maps if attention is block.attn]
        own = torch.cat([weights.sum(1).mean(0) for weights, _ in mine])
        key = torch.cat([key.transpose(0, 1).flatten(1) for _, key in mine])
        found.append(torch.empty_like(own).index_copy(0, there, own))
        keys.append(torch.empty_like(key).index_copy(0, there, key))
    return found, keys


@pytest.mark.parametrize("at_once", [qwen_vit.AT_ONCE, 100])
@pytest.mark.parametrize("name", TOWERS)
def test_keys_and_received_are_those_of_eager_attention(
    name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qwen_vit, "AT_ONCE", at_once)
    found, inputs = seen(name, Needs(received=(0, 1, 2, 3), keys=(0, 1, 2, 3)))
    for block, (want, keys) in enumerate(zip(*eager(name, inputs, monkeypatch), strict=True)):
        torch.testing.assert_close(found["keys"][block][0], keys, atol=1e-4, rtol=1e-4)
        got = found["received"][block]
        assert got.shape == (1, len(inputs["pixel_values"]))
        torch.testing.assert_close(got[0], want, atol=1e-5, rtol=1e-5)
        for own in got[0].split(inputs["image_grid_thw"].prod(1).tolist()):
            torch.testing.assert_close(own.mean(), torch.tensor(1.0))


def test_windowed_blocks_stay_within_their_windows() -> None:
    """Another picture in one corner changes what is received there alone, in the block before any that sees all."""
    if "qwen2_5_vl" not in TOWERS:
        pytest.skip("no windows")
    made = tiny_models.load("qwen2_5_vl")
    inputs = made.inputs([[tiny.picture(64, 64, 1)]])
    other = dict(inputs)
    cells = inputs["pixel_values"].clone().view(8, 8, 4, -1)  # rows and columns of positions
    cells[:4, :4] = cells[:4, :4].flip(0)
    other["pixel_values"] = cells.view_as(inputs["pixel_values"])
    received = []
    for given in (inputs, other):
        with QwenVit().reading(made.model.model.visual, Needs(received=(0, 1)), 4) as found:
            made.features(given)
        received.append([found["received"][block].view(8, 8, 4) for block in (0, 1)])
    (windowed, full), (windowed_other, full_other) = received
    assert not torch.allclose(windowed[:4, :4], windowed_other[:4, :4])
    assert torch.equal(windowed[4:], windowed_other[4:])
    assert torch.equal(windowed[:4, 4:], windowed_other[:4, 4:])
    assert not torch.allclose(full[4:], full_other[4:])


@pytest.mark.parametrize("name", TOWERS)
def test_blocks_are_all_of_the_tower(name: str) -> None:
    tower = tiny_models.load(name).model.model.visual
    assert list(QwenVit().blocks(tower)) == [block.attn for block in tower.blocks]


def hooked(tower: Any) -> list[Any]:
    return [part for part in tower.modules() if part._forward_hooks or part._forward_pre_hooks]


@pytest.mark.parametrize("name", TOWERS)
def test_nothing_is_hooked_for_nothing_and_nothing_stays(name: str) -> None:
    made = tiny_models.load(name)
    tower, inputs = made.model.model.visual, made.inputs(PICTURES)
    before = hooked(tower)
    with QwenVit().reading(tower, Needs(), 4):
        assert hooked(tower) == before
    with QwenVit().reading(tower, Needs(received=(1,), hidden=True), 4):
        block = tower.blocks[1].attn
        assert {part for part in hooked(tower) if part not in before} == {tower, block, block.qkv}
        made.features(inputs)
    assert hooked(tower) == before
