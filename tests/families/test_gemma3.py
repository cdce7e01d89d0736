"""Gemma 3: pictures of one tile, patches pooled to positions, blocks that see both ways, sliding windows."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import tiny_models
import torch
from PIL import Image

import herovlm
from herovlm.families.gemma3 import Gemma3
from herovlm.types import Needs
from herovlm.view import together

SIDE, CELLS = 4, 16  # positions of a tile
pytestmark = pytest.mark.skipif("gemma3" not in tiny_models.here(), reason="this transformers has no Gemma 3")


@pytest.fixture(scope="module")
def made() -> tiny_models.Made:
    return tiny_models.load("gemma3")


def drawn(*sizes: tuple[int, int]) -> list[Image.Image]:
    return [tiny.picture(*size, seed=i) for i, size in enumerate(sizes)]


def scanned(made: tiny_models.Made, pictures: list[list[Image.Image]]) -> Any:
    """Process a batch with pan and scan."""
    how = {"return_tensors": "pt", "padding": True, "padding_side": "left", **tiny_models.family("gemma3").SCANNED}
    return made.processor(images=pictures, text=[made.chat(len(some)) for some in pictures], **how)


def test_pooling_is_the_order_of_the_projector(made: tiny_models.Made) -> None:
    picture = torch.arange(64.0).view(1, 64, 1)  # each patch shows its number
    pooled = made.model.model.multi_modal_projector.avg_pool(picture.view(1, 1, 8, 8)).view(1, CELLS)
    assert torch.equal(Gemma3().pooled(made.model, picture[..., 0], 1), pooled)


@pytest.mark.parametrize("head", [False, True])
def test_signals_and_states_are_those_of_the_untouched_tower(head: bool) -> None:
    model, processor = tiny_models.family("gemma3").build(2, vision_use_head=head)
    made = tiny_models.Made("gemma3", tiny_models.HERE, model, processor)
    inputs = made.inputs([drawn((64, 64), (40, 90)), drawn((9, 7))])
    needs = Needs(received=(0, 2), hidden=True, probe=head)
    seen = herovlm.see(model, inputs, needs=needs).seen(needs)
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    with torch.no_grad():
        tower.set_attn_implementation("eager")
        out = tower(inputs["pixel_values"], output_attentions=True)
        tower.set_attn_implementation("sdpa")
        want = projector(tower(inputs["pixel_values"]).last_hidden_state)
        rows = tower.head.attention(tower.head.probe.repeat(3, 1, 1), *[out.last_hidden_state] * 2)[1] if head else None
    close = {"atol": 1e-4, "rtol": 1e-3}
    for i, one in enumerate(seen):
        torch.testing.assert_close(one.features[0], want[i], **close)
        for block in (0, 2):
            got = out.attentions[block][i].mean(0).sum(0)
            torch.testing.assert_close(one.received[block][0], even(got), **close)
        torch.testing.assert_close(Gemma3().project(model, one.hidden)[0], want[i], **close)
        if rows is not None:
            torch.testing.assert_close(one.probe[0].mean(0), even(rows[i, 0]), **close)


def even(values: torch.Tensor) -> torch.Tensor:
    return values.view(SIDE, 2, SIDE, 2).mean((1, 3)).flatten()


def test_a_known_object_lights_its_positions(made: tiny_models.Made) -> None:
    blank, lit = Image.new("RGB", (32, 32)), Image.new("RGB", (32, 32))
    lit.paste((255, 255, 255), (8, 16, 24, 24))  # row 2, columns 1 and 2 of the positions
    one, other = (made.inputs([[x]])["pixel_values"] for x in (blank, lit))
    patches = (one != other).any(1).view(1, 8, 4, 8, 4).any(4).any(2).flatten(1).float()
    assert Gemma3().pooled(made.model, patches, 1).view(SIDE, SIDE).nonzero().tolist() == [[2, 1], [2, 2]]


def test_crops_of_pan_and_scan_are_pictures_of_their_own(made: tiny_models.Made) -> None:
    inputs = scanned(made, [drawn((100, 64), (64, 64)), drawn((40, 300))])
    assert made.count(inputs) == [(3 + 1) * CELLS, 5 * CELLS]
    short = herovlm.drop(made.model, inputs, method="random", tokens=5)
    assert [kept.positions for kept in short.kept] == [5] * 9
    whole = herovlm.drop(made.model, inputs, method="random", keep=1.0)
    with torch.no_grad():
        assert torch.equal(made.model(**whole).logits, made.model(**inputs).logits)


@pytest.mark.parametrize("method", ["random(seed=3)", "hero(signal=received)"])
def test_blocks_see_both_ways_and_token_types_shrink_with_them(made: tiny_models.Made, method: str) -> None:
    """Dropping is masking in layers of both kinds; with the token types of text it is another thing."""
    inputs = scanned(made, [drawn((100, 64)), drawn((64, 64))])
    short = herovlm.drop(made.model, inputs, method=method, keep=0.4, positions="original")
    visual = short["input_ids"] == made.image_token_id
    assert torch.equal(short["token_type_ids"] == 1, visual)
    mask = torch.zeros_like(inputs["attention_mask"])
    for row, columns in enumerate(short.columns):
        mask[row, columns] = 1
    numbers = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        got = made.model(**short).logits
        want = made.model(**{**inputs, "attention_mask": mask}, position_ids=numbers).logits
        causal = made.model(**{**short, "token_type_ids": torch.zeros_like(short["token_type_ids"])}).logits
    for row, columns in enumerate(short.columns):
        real = short["attention_mask"][row] != 0
        torch.testing.assert_close(got[row, real], want[row, columns], atol=2e-4, rtol=0)
        assert (got[row, real] - causal[row, real]).abs().max() > 1e-2


def test_answers_are_those_of_masking(made: tiny_models.Made) -> None:
    """Token by token, with the cache: each step is compared with a pass over the masked prompt and the answer."""
    inputs = dict(scanned(made, [drawn((100, 64))]))
    short = herovlm.drop(made.model, inputs, method="random", keep=0.4, positions="original")
    answer = made.model.generate(**short, max_new_tokens=6, do_sample=False)[:, short["input_ids"].shape[1] :]
    mask = torch.zeros_like(inputs["attention_mask"])
    mask[0, short.columns[0]] = 1
    ids, kinds = inputs["input_ids"], inputs["token_type_ids"]
    for token in answer[0]:
        numbers = torch.arange(ids.shape[1])[None]
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds, "position_ids": numbers}
        with torch.no_grad():
            assert made.model(**given, pixel_values=inputs["pixel_values"]).logits[0, -1].argmax() == token
        ids = torch.cat((ids, token.view(1, 1)), 1)
        mask, kinds = (torch.nn.functional.pad(x, (0, 1), value=v) for x, v in ((mask, 1), (kinds, 0)))


def test_a_window_that_slides_is_refused_with_original_positions_and_right_with_compact() -> None:
    model, processor = tiny_models.family("gemma3").build(1)
    made = tiny_models.Made("gemma3", tiny_models.HERE, model, processor)
    model.config.text_config.sliding_window = 24
    for layer in model.model.language_model.layers:
        layer.self_attn.sliding_window = 24 if layer.self_attn.is_sliding else None
    inputs = scanned(made, [drawn((100, 64))])
    with pytest.raises(herovlm.UnsupportedError, match="sliding window of 24"):
        herovlm.drop(model, inputs, method="random", keep=0.4, positions="original")
    short = herovlm.drop(model, inputs, method="random", keep=0.4)
    assert "position_ids" not in short
    whole = herovlm.drop(model, inputs, method="random", keep=1.0)
    with torch.no_grad():
        assert torch.equal(model(**whole).logits, model(**inputs).logits)
        embeds = model.get_input_embeddings()(short["input_ids"])
        features = short["mm_encoder_outputs"]["image"].pooler_output.flatten(0, 1)
        embeds[short["input_ids"] == made.image_token_id] = features
        want = model(
            inputs_embeds=embeds, attention_mask=short["attention_mask"], token_type_ids=short["token_type_ids"]
        )
        torch.testing.assert_close(model(**short).logits, want.logits)


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"method": "hero"}, r"write 'hero\(signal=received\)'"),
        ({"method": "downsample"}, "makes pictures smaller, which is not known for Gemma 3"),
        ({"method": "uniform", "narrow": 0.5}, "narrow works in the blocks of transformers' own CLIP"),
        ({"method": "random + fastv(layer=1)"}, "inside methods are verified on"),
        ({"method": "hero(signal=probe)"}, "has no pooling head"),
    ],
    ids=str,
)
def test_what_it_cannot_do_is_one_clear_error(made: tiny_models.Made, how: Any, match: str) -> None:
    with (
        pytest.raises(herovlm.UnsupportedError, match=match),
        herovlm.dropping(made.model, **{"keep": 0.5, **how}),
    ):
        made.model.generate(**made.inputs([drawn((64, 64))]), max_new_tokens=2)


def test_positions_that_patches_do_not_fill_are_an_error() -> None:
    model, _ = tiny_models.family("gemma3").build()
    model.config.mm_tokens_per_image = 9
    with pytest.raises(herovlm.ModelError, match="mm_tokens_per_image=9 are no square that divides 8 x 8"):
        herovlm.token_count(model.config, (64, 64), herovlm.Request.of("full", keep=1.0))


def test_prompts_that_are_taken_out_of_a_view_keep_their_token_types(made: tiny_models.Made) -> None:
    pictures, asked = [drawn((100, 64)), drawn((64, 64))], herovlm.Request.of("random", keep=0.4)
    inputs, alone = made.inputs(pictures), made.inputs(pictures[1:])
    view = herovlm.see(made.model, inputs, asked)
    want = herovlm.drop(made.model, alone, method="random", keep=0.4)
    taken = together([(view.choose(asked), 1)])
    under = view.under(alone["input_ids"], alone["attention_mask"], [1]).drop(asked)
    for short in (taken, under):
        assert torch.equal(short["token_type_ids"], want["token_type_ids"])
        with torch.no_grad():
            torch.testing.assert_close(made.model(**short).logits, made.model(**want).logits, atol=2e-4, rtol=0)
