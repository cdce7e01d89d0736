"""The tiny models are what they are meant to be: the real classes, from a folder, that look at their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import tiny
import tiny_models
import torch
import transformers

PICTURES = [[(100, 64)], [(40, 90), (64, 64)], []]
pytestmark = pytest.mark.parametrize("name", tiny_models.here())


def drawn(sizes: Sequence[Sequence[tuple[int, int]]], seed: int = 0) -> list[list[Any]]:
    return [[tiny.picture(*size, seed=seed + size[0]) for size in some] for some in sizes]


def answers(made: tiny_models.Made, inputs: Any) -> torch.Tensor:
    new = made.model.generate(**inputs, max_new_tokens=12, do_sample=False)
    return new[:, inputs["input_ids"].shape[1] :]


def test_it_is_the_real_class_with_its_real_processor(name: str) -> None:
    made = tiny_models.load(name)
    assert type(made.model) is getattr(transformers, tiny_models.family(name).CLASS)
    assert made.model.config.model_type == name
    for part in (made.model, made.processor, made.processor.image_processor):
        assert type(part).__module__.startswith("transformers.models.")
    assert made.model.dtype == torch.float32
    assert made.model.num_parameters() < 1_000_000


@pytest.mark.parametrize("size", tiny_models.SIZES, ids=str)
def test_positions_of_a_picture(name: str, size: tuple[int, int]) -> None:
    """What the processor puts into the prompt, what the model makes of the picture, and the golden number."""
    made = tiny_models.load(name)
    inputs = made.inputs(drawn([[size]]))
    assert made.count(inputs) == [tiny_models.family(name).TOKENS[size]]
    assert tiny_models.rows(made.features(inputs).pooler_output) == tiny_models.family(name).TOKENS[size]


def test_golden_numbers_are_of_the_sizes(name: str) -> None:
    tokens = tiny_models.family(name).TOKENS
    assert tuple(tokens) == tiny_models.SIZES
    if name not in ("llava", "gemma3"):  # one tile, whatever the picture
        assert len(set(tokens.values())) >= 3, "pictures of different sizes fill different numbers of positions"
        assert 40 <= tokens[100, 64] <= 200, "several tiles or windows, and quick"


def test_a_batch_is_its_prompts(name: str) -> None:
    made = tiny_models.load(name)
    pictures = drawn(PICTURES)
    inputs = made.inputs(pictures)
    assert made.count(inputs) == [made.count(made.inputs([some]))[0] for some in pictures]
    assert tiny_models.rows(made.features(inputs).pooler_output) == sum(made.count(inputs))
    assert (inputs["attention_mask"][:, -1] == 1).all()
    assert (inputs["attention_mask"][:, 0] == 0).sum() == 2
    together = answers(made, inputs)
    for row, some in enumerate(pictures):
        alone = answers(made, made.inputs([some]))[0]  # it ends where it ends; in a batch padding follows
        assert torch.equal(together[row, : len(alone)], alone)


def test_answers_say_something_and_hang_on_the_picture(name: str) -> None:
    made = tiny_models.load(name)
    one, other = (made.inputs(drawn([[(100, 64)]], seed)) for seed in (0, 7))
    assert torch.equal(one["input_ids"], other["input_ids"])
    assert len(answers(made, one).unique()) >= 4
    with torch.no_grad():
        a, b = (made.model(**inputs).logits[0, -1] for inputs in (one, other))
    assert a.std() > 0.5
    assert (a - b).abs().max() > 0.3
