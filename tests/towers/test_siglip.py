"""SigLIP: what patches receive and what the pooling head looks at, against the eager attention of the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from herovlm.errors import UnsupportedError
from herovlm.towers import recording
from herovlm.towers.siglip import Siglip
from herovlm.types import Needs

NEEDS = Needs(received=(0, 2), keys=(1,), probe=True)
T, H, N = 3, 4, 16  # tiles, heads, patches


def make_tower(attention: str = "sdpa", head: bool = True) -> SiglipVisionModel:
    torch.manual_seed(0)
    config = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=H,
        image_size=16,
        patch_size=4,
        vision_use_head=head,
        attn_implementation=attention,
    )
    tower = SiglipVisionModel(config).eval()
    with torch.no_grad():
        for name, weight in tower.named_parameters():
            weight.mul_(4 if "proj" in name and weight.ndim == 2 else 1)  # far from uniform
            weight.add_(0.3 * torch.randn(weight.shape) if weight.ndim == 1 else 0)  # biases count
    return tower


def pixels() -> torch.Tensor:
    return torch.randn(T, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def read(tower: Any, needs: Needs = NEEDS, dtype: torch.dtype = torch.float32) -> Any:
    with Siglip().reading(tower, needs, 3) as found:
        tower(pixels().to(dtype))
    return found


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_received_is_what_eager_attention_pays(attention: str, dtype: torch.dtype, tolerance: float) -> None:
    eager, tower = (make_tower(how).to(dtype) for how in ("eager", attention))
    want = eager(pixels().to(dtype), output_attentions=True).attentions  # blocks of (T, H, query, key)
    found = read(tower, dtype=dtype)["received"]
    assert sorted(found) == [0, 2]
    for block, got in found.items():
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, want[block].float().sum(2).mean(1), atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(got.sum(1), torch.full((T,), float(N)))  # every patch pays 1
        assert got.std() > 0.1


@torch.no_grad()
def test_keys_are_those_of_all_patches() -> None:
    tower, given = make_tower(), []
    handle = recording.attention_blocks(tower)[1].k_proj.register_forward_hook(lambda _m, _a, out: given.append(out))
    found = read(tower)["keys"]
    handle.remove()
    assert given[0].shape == (T, N, 32)
    assert torch.equal(found[1], given[0])


@torch.no_grad()
def test_the_probe_row_is_the_head_s_own_attention() -> None:
    tower = make_tower()
    (got,) = read(tower)["probe"].values()
    last = tower(pixels()).last_hidden_state  # behind the last norm, as the head reads it
    head: Any = next(part for part in tower.modules() if hasattr(part, "probe"))
    probe = head.probe.repeat(T, 1, 1)
    want = head.attention(probe, last, last, need_weights=True, average_attn_weights=False)[1]  # (T, H, 1, N)
    assert got.shape == (T, H, N)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want[:, :, 0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(got.sum(-1), torch.ones(T, H))
    assert got.std() > 1e-2


def test_only_what_is_needed_is_recorded() -> None:
    found = read(make_tower(), Needs())
    assert not any(found.values())


def hooks(tower: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in tower.modules())


def test_hooks_are_gone_also_after_an_error() -> None:
    tower = make_tower()
    before = hooks(tower)
    with Siglip().reading(tower, NEEDS, 3):
        assert hooks(tower) > before  # this count can see them
        tower(pixels())
    assert hooks(tower) == before
    with pytest.raises(RuntimeError, match="boom"), Siglip().reading(tower, NEEDS, 3):
        raise RuntimeError("boom")
    assert hooks(tower) == before


def test_a_head_that_does_not_run_is_an_error() -> None:
    with pytest.raises(UnsupportedError, match="pooling head was not recorded"):
        read(make_tower(head=False), Needs(probe=True))


def test_a_checkpoint_without_head_lacks_the_probe_and_nothing_else() -> None:
    assert list(Siglip().lacks(make_tower(head=False).config)) == ["probe"]
    assert not Siglip().lacks(make_tower().config)
