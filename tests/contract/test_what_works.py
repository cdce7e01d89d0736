"""What `herovlm models TYPE` says of a method on a family is what happens."""

from __future__ import annotations

import pytest
import tiny_models
from PIL import Image

import herovlm
from herovlm import registry
from herovlm.cli.models import about

KINDS = [kind for kind in tiny_models.here() if kind in registry.FAMILIES]
CASES = [(kind, name) for kind in KINDS for name in registry.methods()]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_method_works_where_it_is_said_to(kind: str, name: str) -> None:
    made, one = tiny_models.load(kind), about(kind)
    inputs = made.inputs([[Image.effect_noise((100, 64), 90).convert("RGB")]])
    if name in one["refused"]:
        with pytest.raises(herovlm.UnsupportedError):
            herovlm.drop(made.model, inputs, method=name, keep=0.5, processor=made.processor)
        return
    if name in one["written as"]:
        with pytest.raises(herovlm.UnsupportedError) as refused:
            herovlm.drop(made.model, inputs, method=name, keep=0.5, processor=made.processor)
        assert one["written as"][name] in str(refused.value)
    spec = one["written as"].get(name, name)
    short = herovlm.drop(made.model, inputs, method=spec, keep=0.5, processor=made.processor)
    whole, kept = made.count(inputs)[0], int((short["input_ids"] == made.image_token_id).sum())
    assert 0 < kept < whole or name == "full"
