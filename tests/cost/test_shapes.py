"""Models of named shapes are real models: they answer, their buffers are right, and only their weights are made up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

import herovlm
from herovlm import registry
from herovlm.cost import configs, shapes
from herovlm.errors import HeroError, InputsError, ModelError
from herovlm.towers import relevance


@pytest.fixture(scope="module")
def small() -> Any:
    return shapes.build("small")


@pytest.mark.parametrize("name", configs.SHAPES)
def test_every_shape_has_a_config_that_fits(name: str) -> None:
    text = configs.config_of(name).text_config
    assert text.hidden_size % text.num_attention_heads == 0 == text.num_attention_heads % text.num_key_value_heads
    assert configs.config_of(name, llm_layers=2).text_config.num_hidden_layers == 2


# parameters of the checkpoints, as the hub counts them
SIZES = {"llava-1.5-7b": 7.06e9, "internvl3-8b": 7.94e9, "llava-onevision-7b": 8.03e9, "qwen2.5-vl-7b": 8.29e9}


@pytest.mark.parametrize("name", SIZES)
def test_a_shape_is_as_large_as_its_checkpoint(name: str) -> None:
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(configs.config_of(name))
    assert model.num_parameters() == pytest.approx(SIZES[name], rel=0.01)


COUNTS = {  # height and width -> positions, as the processors of the checkpoints count
    "llava-next-7b": {(672, 672): 2928},
    "internvl3-8b": {(448, 448): 256, (896, 896): 5 * 256},
    "llava-onevision-7b": {(384, 384): 1485, (768, 768): 3699},
    "qwen2.5-vl-7b": {(672, 672): 576, (448, 448): 256},
}


@pytest.mark.parametrize("name", COUNTS)
def test_pictures_have_as_many_positions_as_in_the_checkpoint(name: str) -> None:
    config, whole = configs.config_of(name), herovlm.Request.of("uniform", keep=1.0)
    if config.model_type not in registry.families():
        pytest.skip("the family is not there yet")
    assert {size: herovlm.token_count(config, size, whole) for size in COUNTS[name]} == COUNTS[name]


def test_an_unknown_shape_is_guessed_at() -> None:
    with pytest.raises(ModelError, match=r"did you mean 'llava-next-7b'.*llava-1\.5-13b"):
        configs.config_of("llava-next7b")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_weights_are_random_and_the_rest_is_as_transformers_makes_it(dtype: torch.dtype) -> None:
    model = shapes.build("small", dtype=dtype)
    assert {weight.dtype for weight in model.parameters()} == {dtype}
    for name, weight in model.named_parameters():
        assert bool(weight.isfinite().all()), name
        assert weight.ndim == 1 or weight.float().std() > 0.01, name
    made = type(model)(model.config)
    for name, buffer in made.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name
    projection = model.model.language_model.layers[0].mlp.up_proj.weight
    assert len(torch.unique(projection, dim=0)) == len(projection), "rows of a weight repeat"


@pytest.mark.parametrize("method", ["hero", "mmtok"])
def test_a_shape_answers_like_any_model(small: Any, method: str) -> None:
    inputs = shapes.prompt(small)
    short = herovlm.drop(small, inputs, method=method, keep=0.2, question=shapes.QUESTION)
    assert short.kept[0].positions == round(0.2 * short.seen[0].positions)
    with torch.no_grad():
        logits = small(**short, logits_to_keep=1).logits
    assert bool(logits.isfinite().all())


def test_the_original_clip_is_there_only_where_it_is_asked_for(small: Any) -> None:
    inputs = shapes.prompt(small)
    pixels = inputs["pixel_values"][0]
    with pytest.raises(TypeError):
        relevance.score(small, "clip", [shapes.QUESTION], pixels, [0] * 5)
    whole = shapes.build("small", original_clip=True)
    assert relevance.score(whole, "clip", [shapes.QUESTION], pixels, [0] * 5).shape == (5,)


def test_a_question_is_cut_as_clip_cuts_it() -> None:
    assert shapes.spelled("what is it?")["input_ids"].tolist() == [[0, 3, 4, 5, 2]]
    assert shapes.spelled("a " * 100, max_length=7)["input_ids"].shape == (1, 7)


@pytest.mark.parametrize(("size", "tiles"), [(None, 5), ((336, 336), 3), ((300, 1000), 4)])
def test_prompts_are_what_a_processor_returns(small: Any, size: tuple[int, int] | None, tiles: int) -> None:
    inputs = shapes.prompt(small, batch=2, size=size, text=9)
    image = inputs["input_ids"] == small.config.image_token_id
    assert inputs["pixel_values"].shape == (2, tiles, 3, 336, 336)
    assert inputs["pixel_values"].dtype == small.dtype
    (counts,) = {tuple(image.sum(1).tolist())}
    assert counts[0] == counts[1] == inputs["input_ids"].shape[1] - 9
    with torch.no_grad():
        features = small.get_image_features(inputs["pixel_values"], inputs["image_sizes"]).pooler_output
    assert [len(each) for each in features] == list(counts)


def test_prompts_of_a_family_without_tiles(models: Any) -> None:
    model = models("llava").model
    inputs = shapes.prompt(model, batch=3)
    assert {name: len(value) for name, value in inputs.items()} == dict.fromkeys(inputs, 3)
    with torch.no_grad():
        assert model(**inputs, logits_to_keep=1).logits.shape[0] == 3


def test_a_prompt_is_cut_to_so_many_positions(small: Any) -> None:
    inputs, image = shapes.prompt(small, batch=2), small.config.image_token_id
    text = inputs["input_ids"][inputs["input_ids"] != image]
    short = shapes.of_length(inputs, image, 7)
    assert {*short} == {"input_ids", "attention_mask"}
    assert (short["input_ids"] == image).sum(1).tolist() == [7, 7]
    assert torch.equal(short["input_ids"][short["input_ids"] != image], text)
    with pytest.raises(InputsError, match="ask for fewer"):
        shapes.of_length(inputs, image, 10**6)
    assert issubclass(InputsError, HeroError)
