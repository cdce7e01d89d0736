"""What is read off the tower of Idefics3 and SmolVLM is what its eager attention pays, padding or not."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_models
import torch

from herovlm.towers import recording
from herovlm.towers.idefics_vit import IdeficsVit
from herovlm.types import Needs

NEEDS = Needs(received=(0, 2), keys=(1,))
pytestmark = pytest.mark.parametrize("name", [name for name in ("idefics3", "smolvlm") if name in tiny_models.here()])


def tower(name: str, attention: str) -> Any:
    model, _ = tiny_models.family(name).build(3)
    vision = model.model.vision_model
    vision.set_attn_implementation(attention)
    return vision


def tiles() -> torch.Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.manual_seed(0))


def padded() -> torch.Tensor:
    """Which of 8 x 8 patches are real: all of them, five columns, six rows."""
    real = torch.ones(3, 8, 8, dtype=torch.bool)
    real[1, :, 5:] = real[2, 6:] = False
    return real


@pytest.mark.parametrize("full", [True, False])
@torch.no_grad()
def test_received_is_that_of_eager_attention(name: str, full: bool) -> None:
    real = torch.ones_like(padded()) if full else padded()
    eager, vision = tower(name, "eager"), tower(name, "sdpa")
    maps = eager(tiles(), patch_attention_mask=real, output_attentions=True).attentions
    with IdeficsVit().reading(vision, NEEDS, 3) as found:
        vision(pixel_values=tiles(), patch_attention_mask=real)
    keys: list[torch.Tensor] = []
    handle = recording.attention_blocks(vision)[1].k_proj.register_forward_hook(lambda _m, _a, out: keys.append(out))
    vision(pixel_values=tiles(), patch_attention_mask=real)
    handle.remove()
    assert torch.equal(found["keys"][1], keys[0])
    there = real.flatten(1).float()
    for block in (0, 2):
        want = (maps[block].mean(1) * there[:, :, None]).sum(1)  # of patches that are real
        torch.testing.assert_close(found["received"][block], want, atol=1e-4, rtol=1e-3)
        assert (found["received"][block][~real.flatten(1)] == 0).all()
        assert found["received"][block].std() > 1e-2, "attention that is far from even"


@torch.no_grad()
def test_a_few_maps_at_a_time_say_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = torch.randn(2, 3, 64, 32, generator=torch.manual_seed(1))
    want = recording.received_by_all(q, k, 4, padded().flatten(1))
    for most in (5 * 64**2, 7 * 64):
        monkeypatch.setattr(recording, "AT_ONCE", most)
        torch.testing.assert_close(recording.received_by_all(q, k, 4, padded().flatten(1)), want)


@torch.no_grad()
def test_no_hook_is_left(name: str) -> None:
    vision = tower(name, "sdpa")
    with IdeficsVit().reading(vision, NEEDS, 3):
        vision(pixel_values=tiles(), patch_attention_mask=padded())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in vision.modules())
