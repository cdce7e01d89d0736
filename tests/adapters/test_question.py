"""The question is the user's words, whatever template they stand in."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from herovlm.adapters import question
from herovlm.errors import InputsError

SPECIAL = ("<s>", "</s>", "<pad>", "<|eot_id|>", "<|begin_of_text|>", "<|im_end|>")
VICUNA = "A chat between a curious human and an artificial intelligence assistant. "
PROMPTS = {
    "vicuna": "USER: {}\nASSISTANT:",
    "vicuna with system": VICUNA + "USER: {} ASSISTANT:",
    "vicuna, second turn": "USER: first? ASSISTANT: yes.</s>USER: {} ASSISTANT:",
    "mistral": "<s>[INST] {} [/INST]",
    "mistral, second turn": "<s>[INST] first? [/INST] yes.</s>[INST] {} [/INST]",
    "llama 2": "<s>[INST] <<SYS>>\nYou are kind.\n<</SYS>>\n\n{} [/INST]",
    "llama 3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are kind.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "chatml": "<|im_start|>system\nAnswer.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
    "chatml, second turn": "<|im_start|>user\nfirst?<|im_end|><|im_start|>assistant\nyes<|im_end|><|im_start|>user\n{}",
    "gemma": "<bos><start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n",
    "phi": "<|system|>\nBe kind.<|end|>\n<|user|>\n{}<|end|>\n<|assistant|>\n",
    "human": "### Human: {}\n### Assistant:",
    "none": "<s>{}",
}
QUESTIONS = ["What is it?", "Which sign says 7:30, the left one?", "Ist das grün?", "[x] < 3 | y:"]


@pytest.mark.parametrize("words", QUESTIONS)
@pytest.mark.parametrize("template", PROMPTS)
def test_only_the_users_words_are_left(template: str, words: str) -> None:
    for asked in (words, f"\n{words}  ", words.replace(" ", "  ")):
        assert question.from_text(PROMPTS[template].replace("{}", asked), SPECIAL) == words


def test_an_empty_question_is_empty() -> None:
    assert question.from_text("USER: \nASSISTANT:", SPECIAL) == ""
    assert question.from_text("<s>", SPECIAL) == ""


def test_an_empty_last_turn_falls_back_to_the_turn_before() -> None:
    assert question.from_text("[INST] what? [/INST] this [INST] [/INST]", SPECIAL) == "what?"


def test_placeholders_and_padding_are_not_words() -> None:
    words = tiny.tokenizer()
    prompt = "USER: <image><image><image>\nHow many\n<image> are there? ASSISTANT:"
    tokens = words([prompt, prompt + "x" * 40], padding=True, return_tensors="pt")
    image = words.convert_tokens_to_ids("<image>")
    ids, mask = tokens["input_ids"][0], tokens["attention_mask"][0]
    assert int((mask == 0).sum()) == 40
    assert question.from_ids(ids, mask, image, words) == "How many are there?"
    assert question.from_ids(ids, torch.ones_like(mask), image, words) == "How many are there?"


def test_tokenizer_of_processor_tokenizer_or_nothing(models: object) -> None:
    small = tiny.make()
    assert question.tokenizer_of(small.processor) is small.processor.tokenizer
    assert question.tokenizer_of(small.processor.tokenizer) is small.processor.tokenizer
    with pytest.raises(InputsError, match="processor="):
        question.tokenizer_of(None)


def test_the_tokenizer_beside_the_weights_is_found(tmp_path: Path) -> None:
    small = tiny.make()
    small.model.save_pretrained(tmp_path / "model")
    bare = type(small.model).from_pretrained(tmp_path / "model")
    with pytest.raises(InputsError, match="processor="):
        question.tokenizer_of(None, bare)
    small.processor.save_pretrained(tmp_path / "whole")
    small.model.save_pretrained(tmp_path / "whole")
    whole = type(small.model).from_pretrained(tmp_path / "whole")
    found = question.tokenizer_of(None, whole)
    assert found("How many are there?")["input_ids"] == small.processor.tokenizer("How many are there?")["input_ids"]
    assert question.tokenizer_of(None, whole) is found
