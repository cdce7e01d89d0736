"""What is read off InternViT is what its eager attention pays, whichever norms it has."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor

from herovlm.towers import recording
from herovlm.towers.internvit import InternVit
from herovlm.types import Needs

NEEDS = Needs(attention=(0, 2), received=(1,), keys=(2,), cls=True)
TOWERS = [
    {},
    {"use_qk_norm": False},
    {"use_qk_norm": False, "norm_type": "layer_norm", "use_mean_pooling": False},
]


def made(how: dict[str, Any], attention: str) -> Any:
    """The vision tower of a tiny InternVL; norms have weights that are not 1."""
    model, _ = tiny_models.family("internvl").build(3, **how)
    tower = model.model.vision_tower
    tower.set_attn_implementation(attention)
    return tower


def tiles() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.manual_seed(0))


@pytest.mark.parametrize("how", TOWERS, ids=str)
@torch.no_grad()
def test_rows_are_those_of_eager_attention(how: dict[str, Any]) -> None:
    eager, tower = made(how, "eager"), made(how, "sdpa")
    maps = eager(tiles(), output_attentions=True).attentions
    with InternVit().reading(tower, NEEDS, 3) as found:
        tower(tiles())
    for block in (0, 2):
        row = found["attention"][block]
        assert row.shape == (3, 4, 64)
        torch.testing.assert_close(row, maps[block][:, :, 0, 1:], atol=2e-5, rtol=1e-3)
        assert row.std() > 1e-2, "attention that is far from even"
    torch.testing.assert_close(found["received"][1], maps[1][:, :, 1:, 1:].mean(1).sum(1), atol=2e-4, rtol=1e-3)


@torch.no_grad()
def test_rows_before_the_norms_are_others() -> None:
    tower = made({}, "sdpa")
    with recording.recorded(tower, {"attention": (1,)}) as before, InternVit().reading(tower, Needs((1,)), 3) as found:
        tower(tiles())
    assert (before["attention"][1] - found["attention"][1]).abs().max() > 0.05


@pytest.mark.parametrize("how", TOWERS, ids=str)
@torch.no_grad()
def test_the_cls_state_is_behind_the_last_block_and_before_any_norm(how: dict[str, Any]) -> None:
    tower, last = made(how, "sdpa"), []
    handle = tower.encoder.layer[-1].register_forward_hook(lambda _m, _a, out: last.append(out))
    with InternVit().reading(tower, NEEDS, 3) as found:
        output = tower(tiles())
    handle.remove()
    assert torch.equal(InternVit().states(output, found), last[0])
    assert torch.equal(output.last_hidden_state, last[0]) == how.get("use_mean_pooling", True)
