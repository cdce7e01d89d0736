"""A quantised projector is given the dtype that it was given when it was recorded, never that of its weights."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

import herovlm

MERGING = ["visionzip", "prumerge", "prumerge_plus"]
TEXT = ["USER: <image>\nWhat is this? ASSISTANT:"]


class Int8Linear(nn.Module):
    """Weights as int8 with a scale a row; it computes in the dtype of its input, which must not be int8."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        scale = plain.weight.abs().amax(1, keepdim=True) / 127
        self.weight = nn.Parameter((plain.weight / scale).round().to(torch.int8), requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.bias = nn.Parameter(plain.bias.detach().clone(), requires_grad=False)

    def forward(self, states: Tensor) -> Tensor:
        weight = self.weight.to(states.dtype) * self.scale.to(states.dtype)
        return nn.functional.linear(states, weight, self.bias.to(states.dtype))


def quantised(family: str, dtype: torch.dtype) -> tiny.Tiny:
    small = tiny.make(family)
    small.model.to(dtype)
    projector = small.model.model.multi_modal_projector
    for name in ("linear_1", "linear_2"):
        setattr(projector, name, Int8Linear(getattr(projector, name).float()))
    return small


@pytest.mark.parametrize("method", MERGING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_methods_that_merge_before_it(family: str, dtype: torch.dtype, method: str) -> None:
    small = quantised(family, dtype)
    inputs = small.inputs([[tiny.picture(60, 31)]], TEXT)
    before = {name: value.clone() for name, value in small.model.state_dict().items()}
    short = herovlm.drop(small.model, inputs, method=method, keep=0.4)
    (features,) = short["mm_encoder_outputs"]["image"].pooler_output
    assert features.dtype == dtype
    assert features.isfinite().all()
    after = small.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before), "the model was changed"


@pytest.mark.parametrize("bits", ["load_in_8bit", "load_in_4bit"])
@pytest.mark.parametrize("method", [*MERGING, "hero(alpha=1)"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
def test_bitsandbytes(models: Any, tmp_path: Any, bits: str, method: str) -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("accelerate")
    from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

    small = models("llava_next")
    small.model.save_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(
        tmp_path,
        quantization_config=BitsAndBytesConfig(**{bits: True}),
        device_map="cpu",
    )
    model.requires_grad_(False)
    projector = model.model.multi_modal_projector
    assert not projector.linear_1.weight.is_floating_point(), "it is quantised"
    bias = projector.linear_1.bias.clone()
    inputs = small.inputs([[tiny.picture(60, 31)]], TEXT)
    short = herovlm.drop(model, inputs, method=method, keep=0.4)
    assert torch.equal(projector.linear_1.bias, bias)
    assert projector.linear_1.bias.dtype == bias.dtype
    new = model.generate(**short, max_new_tokens=4, do_sample=False)
    assert new.shape[1] > short["input_ids"].shape[1]
