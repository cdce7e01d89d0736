"""`Short.columns` and `Short.origin`: from each column of the short prompt back to the prompt and the picture."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

import herovlm
from herovlm.types import Short

METHODS = ["hero", "random(seed=3)", "hero(newlines='touched')", "prumerge", "thumbnail"]
pytestmark = pytest.mark.parametrize("family", tiny.FAMILIES)


def batch(small: tiny.Tiny, side: str = "left") -> Any:
    """Three prompts of different lengths: two images, one, none."""
    pictures = [[tiny.picture(20, 60), tiny.picture(33, 33, 1)], [tiny.picture(60, 31)], []]
    texts = ["USER: <image> or <image>\nWhich? ASSISTANT:", "USER: <image>\nWhat is it? ASSISTANT:", "USER: Hi"]
    return small.inputs(pictures, texts, side)


def real(values: torch.Tensor, short: Short, row: int) -> torch.Tensor:
    return values[row][short["attention_mask"][row] != 0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("keep", [0.3, 1.0])
@pytest.mark.parametrize("side", ["left", "right"])
def test_columns_say_what_is_left_of_each_prompt(models: Any, family: str, method: str, keep: float, side: str) -> None:
    small = models(family)
    inputs = batch(small, side)
    short = herovlm.drop(small.model, inputs, method=method, keep=keep, processor=small.processor)
    assert len(short.columns) == len(inputs["input_ids"])
    for row, columns in enumerate(short.columns):
        assert torch.equal(inputs["input_ids"][row, columns], real(short["input_ids"], short, row))
        assert torch.equal(columns, columns.unique())
        text = (inputs["input_ids"][row] != small.model.config.image_token_id) & (inputs["attention_mask"][row] != 0)
        assert set(text.nonzero().flatten().tolist()) <= set(columns.tolist())
        assert torch.equal(real(short.origin.column, short, row), columns)
    assert (short.origin.column[short["attention_mask"] == 0] == -1).all()


@pytest.mark.parametrize("method", ["hero", "random(seed=3)", "hero(newlines='all')", "thumbnail"])
def test_masking_what_columns_leave_out_is_dropping(models: Any, family: str, method: str) -> None:
    small = models(family)
    inputs = batch(small)
    short = herovlm.drop(small.model, inputs, method=method, keep=0.3, processor=small.processor, positions="original")
    mask = torch.zeros_like(inputs["attention_mask"])
    for row, columns in enumerate(short.columns):
        mask[row, columns] = 1
    places = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        got = small.model(**short).logits[:, -1]
        want = small.model(**{**inputs, "attention_mask": mask}, position_ids=places).logits[:, -1]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["hero", "random(seed=3)", "hero(newlines='canvas', variant='official')"])
@pytest.mark.parametrize("keep", [0.3, 1.0])
def test_origin_finds_the_patch_that_a_column_shows(models: Any, family: str, method: str, keep: float) -> None:
    small = models(family)
    inputs = batch(small)
    short = herovlm.drop(small.model, inputs, method=method, keep=keep, processor=small.processor)
    origin = short.origin
    visual = short["input_ids"] == small.model.config.image_token_id
    assert torch.equal(origin.image >= 0, visual)
    sent = torch.cat(list(short["mm_encoder_outputs"]["image"].pooler_output))
    images, tiles, patches = origin.image[visual], origin.tile[visual], origin.patch[visual]
    assert torch.equal(images, images.sort().values)
    for feature, image, tile, patch in zip(sent, images.tolist(), tiles.tolist(), patches.tolist(), strict=True):
        seen, kept = short.seen[image], short.kept[image]
        if tile >= 0:
            assert kept.mask[tile, patch]
            assert torch.equal(feature, seen.features[tile, patch])
        else:
            assert patch == -1
            assert torch.equal(feature, small.model.base_model.image_newline)
    for image, kept in enumerate(short.kept):
        assert (origin.image == image).sum() == kept.positions
        assert ((origin.image == image) & (origin.tile < 0)).sum() == kept.newlines.sum()


def test_a_prompt_without_pictures_keeps_its_columns(models: Any, family: str) -> None:
    small = models(family)
    inputs = small.inputs([], ["USER: Hello there ASSISTANT:", "Hi"])
    short = herovlm.drop(small.model, inputs)
    assert [c.tolist() for c in short.columns] == [m.nonzero().flatten().tolist() for m in inputs["attention_mask"]]
    assert (short.origin.image == -1).all()
    assert torch.equal(short.origin.column >= 0, inputs["attention_mask"] != 0)
