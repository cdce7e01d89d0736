"""Every method on pictures of any shape, through a real processor: thin ones lose all rows or columns of the canvas."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
from test_methods import SPECS

import herovlm
from herovlm import spec
from herovlm.errors import BudgetError

SIZES = [(1000, 10), (10, 1000), (3, 3), (1, 2000), (2000, 1), (333, 1999), (700, 340)]


@pytest.fixture(scope="module")
def asked(models: Any) -> dict[tuple[int, int], Any]:
    """What the processor makes of each picture."""
    small = models("llava_next")
    return {size: small.inputs([[tiny.picture(*size)]], ["USER: <image>\nHi? ASSISTANT:"]) for size in SIZES}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("method", [one for one in SPECS if "probe" not in one])  # CLIP has no pooling head
def test_a_picture_of_any_shape_is_shortened(
    models: Any, asked: dict[tuple[int, int], Any], method: str, size: tuple[int, int]
) -> None:
    small, inputs = models("llava_next"), asked[size]
    full = int((inputs["input_ids"] == small.model.config.image_token_id).sum())
    for keep in (0.2, 0.7):
        try:
            short = herovlm.drop(small.model, inputs, method=method, keep=keep, processor=small.processor)
        except BudgetError:
            assert not spec.parse(method).exact
            continue
        (kept,), (seen,) = short.kept, short.seen
        assert seen.positions == full
        assert not (kept.mask & ~seen.valid).any()
        if spec.parse(method).exact:
            assert kept.positions == round(keep * full)
