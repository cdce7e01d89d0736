"""The oracle: dropping with original positions equals the unmodified model with the dropped tokens masked out."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

import herovlm
from herovlm.types import Short

CASES = {
    "one": ([[(60, 31)]], ["USER: <image>\nWhat is this? ASSISTANT:"]),
    "batch": ([[(60, 31)], [(20, 60)]], ["USER: <image>\nHi? ASSISTANT:", "USER: see <image>\nGreen? ASSISTANT:"]),
    "several": (
        [[(33, 33)], [], [(60, 20), (16, 16)]],
        ["<image> a", "USER: no picture here ASSISTANT:", "USER: <image> or <image>\nWhich one? ASSISTANT:"],
    ),
}
METHODS = ["random(seed=3)", "uniform", "hero", "hero(alpha=1, newlines='all')", "hero(newlines='none')", "thumbnail"]


def make_inputs(small: tiny.Tiny, case: str) -> Any:
    sizes, texts = CASES[case]
    return small.inputs([[tiny.picture(*size, seed=size[0]) for size in some] for some in sizes], texts)


def dropped(small: tiny.Tiny, inputs: Any, short: Short) -> torch.Tensor:
    """Which columns of the full prompt are gone, (B, L), found from the records alone."""
    gone = torch.zeros_like(inputs["attention_mask"], dtype=torch.bool)
    places = (inputs["input_ids"] == small.model.config.image_token_id).nonzero()
    flags = []
    for seen, kept in zip(short.seen, short.kept, strict=True):
        for slot in seen.grid.order.tolist():
            tile, patch = divmod(slot, seen.valid.shape[1])
            if slot >= 0 and seen.valid[tile, patch]:
                flags.append(not kept.mask[tile, patch])
            elif slot < 0 and seen.grid.sent[-1 - slot]:
                flags.append(not kept.newlines[-1 - slot])
    gone[places[:, 0], places[:, 1]] = torch.tensor(flags)
    return gone


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_dropping_equals_masking(models: Any, family: str, case: str, method: str) -> None:
    small = models(family)
    inputs = make_inputs(small, case)
    short = herovlm.drop(small.model, inputs, method=method, keep=0.3, processor=small.processor, positions="original")
    gone = dropped(small, inputs, short)
    assert gone.any(1).tolist() == [bool(some) for some in CASES[case][0]]

    masked = dict(inputs)
    full = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    masked["attention_mask"] = inputs["attention_mask"] * ~gone
    with torch.no_grad():
        got = small.model(**short).logits[:, -1]
        want = small.model(**masked, position_ids=full).logits[:, -1]
        plain = small.model(**inputs).logits[:, -1]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
    pictured = gone.any(1)
    assert (got - plain).abs().amax(-1)[pictured].min() > 1e-2  # the oracle tells dropping from not dropping

    new = small.model.generate(**short, max_new_tokens=6, do_sample=False)[:, short["input_ids"].shape[1] :]
    reference = small.model.generate(**masked, position_ids=full, max_new_tokens=6, do_sample=False)
    assert torch.equal(new, reference[:, inputs["input_ids"].shape[1] :])
