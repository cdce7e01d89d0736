"""The words of a question as the language model reads them."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

import herovlm
from herovlm.errors import InputsError
from herovlm.prompt import words

PICTURES = [[tiny.picture(60, 31)], [tiny.picture(20, 60), tiny.picture(33, 33, 1)]]
TEXTS = ["USER: <image>\nIs it red? ASSISTANT:", "USER: <image> or <image>\nWhich sign is blue? ASSISTANT:"]


@pytest.mark.parametrize(
    ("question", "left"),
    [
        ("What color is the car? Answer the question using a single word or phrase.", "color car"),
        ("Is A or B larger?\nAnswer with the option's letter from the given choices directly.", "or B larger"),
        ("Where is it?", "Where is it?"),
        ("Où est le chat?", "Où est le chat"),
        ("", ""),
    ],
)
def test_words_that_name_nothing_are_left_out_unless_nothing_is_left(question: str, left: str) -> None:
    assert words.keywords(question) == left


def test_every_image_gets_the_words_of_its_own_prompt(models: Any) -> None:
    small = models()
    table, tokenizer = small.model.get_input_embeddings().weight.detach(), small.processor.tokenizer
    asked = [["red"], ["or sign blue"], ["or sign blue"]]
    given = {"method": "mmtok", "keep": 0.5, "processor": small.processor}
    for side in ("left", "right"):
        seen = herovlm.drop(small.model, small.inputs(PICTURES, TEXTS, side), **given).seen
        for one, (text,) in zip(seen, asked, strict=True):
            want = table[tokenizer(text, add_special_tokens=False)["input_ids"]]
            assert torch.equal(one.words["keywords"], want)
    (one, *_) = herovlm.drop(small.model, small.inputs(PICTURES, TEXTS), **given, question="a b").seen
    assert torch.equal(one.words["keywords"], table[tokenizer("b", add_special_tokens=False)["input_ids"]])
    (one, *_) = herovlm.drop(
        small.model, small.inputs(PICTURES, TEXTS), **{**given, "method": "mmtok(keywords=False)"}
    ).seen
    assert torch.equal(one.words["all"], table[tokenizer("Is it red?", add_special_tokens=False)["input_ids"]])


def test_what_is_missing_is_said(models: Any) -> None:
    small = models()
    inputs = small.inputs(PICTURES[:1], TEXTS[:1])
    with pytest.raises(InputsError, match="pass processor="):
        herovlm.drop(small.model, inputs, method="mmtok", question="red?")
    with pytest.raises(InputsError, match="no question"):
        herovlm.drop(small.model, inputs, method="mmtok", question=" ", processor=small.processor)
