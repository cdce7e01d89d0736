"""The question is the user's words, whatever template they stand in."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import tiny
import torch

from herovlm.errors import InputsError
from herovlm.prompt import question

IMAGE = 3  # the token of the tiny tokenizer
VICUNA = "A chat between a curious human and an artificial intelligence assistant. "
TOKENS = {  # templates with tokens of their own
    "llama 3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are kind.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "chatml": "<|im_start|>system\nAnswer.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
    "chatml, second turn": (
        "<|im_start|>user\n<image>first?<|im_end|><|im_start|>assistant\nyes<|im_end|><|im_start|>user\n{}<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
    "chatml, not closed": "<|im_start|>user\n{}",
    "gemma": "<bos><start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n",
    "phi": "<|system|>\nBe kind.<|end|>\n<|user|>\n{}<|end|>\n<|assistant|>\n",
    "mistral": "<s>[INST] {} [/INST]",
    "mistral, second turn": "<s>[INST] <image>first? [/INST] yes.</s>[INST] {} [/INST]",
    "llama 2": "<s>[INST] <<SYS>>\nYou are kind.\n<</SYS>>\n\n{} [/INST]",
}
PLAIN = {  # those of words
    "vicuna": "USER: {}\nASSISTANT:",
    "vicuna on one line": "USER: {} ASSISTANT:",
    "vicuna with system": VICUNA + "USER: {} ASSISTANT:",
    "vicuna, second turn": "USER: <image>\nfirst? ASSISTANT: yes.</s>USER: {} ASSISTANT:",
    "vicuna, second turn of the template on the hub": "USER: <image>\nfirst? ASSISTANT: yes. USER: {} ASSISTANT:",
    "vicuna, third turn": "USER: first? ASSISTANT: yes.</s>USER: and? ASSISTANT: no.</s>USER: <image>\n{} ASSISTANT:",
    "vicuna, not closed": "<s>USER: <image>\n{}",
    "human": "### Human: {}\n### Assistant:",
    "human, second turn": "### Human: <image>first?\n### Assistant: yes\n### Human: {}\n### Assistant:",
    "user": "User: {}\nAssistant:",
    "zephyr": "<|user|>\n{}</s>\n<|assistant|>\n",
    "none": "<s>{}",
}
QUESTIONS = ["What is it?", "Which sign says 7:30, the left one?", "Ist das grün?", "[x] < 3 | y: > 2", "<b>bold</b>?"]
HEADERS = [  # words that some template uses
    "What does the user: field say?",
    "What does the USER: field say?",
    "Human: or user: or User: who is it?",
    "USER: is it a human: an assistant: or a user:",
    "### Human: what now?",
    "What stands behind assistant: on the form?",
]
EITHER = ["Is ASSISTANT: left of USER: on this form?", "### Assistant: or ### Human: or Assistant: or User: ?"]


def spoken(template: str, words: str, tokens: bool = True) -> str:
    """What is read of a prompt; the template's signs are tokens, or words where its tokenizer does not know them."""
    tokenizer = tiny.tokenizer()
    if tokens:
        signs = re.findall(r"(?<!<)<\|?\w+\|?>|\[/?INST\]", "".join(TOKENS.values()))
        tokenizer.add_tokens(list(dict.fromkeys(signs)), special_tokens=True)
    ids = tokenizer(template.replace("{}", "\0")).input_ids
    at = ids.index(tokenizer("\0").input_ids[-1])
    own = tiny.tokenizer()(words, add_special_tokens=False).input_ids  # never a token of the template
    whole = torch.tensor([*ids[:at], *own, *ids[at + 1 :]])
    return question.from_ids(whole, torch.ones_like(whole), IMAGE, tokenizer)


@pytest.mark.parametrize("words", QUESTIONS)
@pytest.mark.parametrize("template", [*TOKENS, *PLAIN])
@pytest.mark.parametrize("tokens", [True, False])
def test_only_the_users_words_are_left(template: str, tokens: bool, words: str) -> None:
    for asked in (words, f"<image>\n{words}  ", words.replace(" ", "  ")):
        assert spoken({**TOKENS, **PLAIN}[template], asked, tokens) == words


@pytest.mark.parametrize("template", [*TOKENS, *PLAIN])
def test_the_users_words_may_be_those_of_a_template(template: str) -> None:
    headers = [words for words in HEADERS if template != "none" or words[0] == "W"]  # a prompt may begin with a header
    for words in [*headers, *(EITHER if template in TOKENS or "</s>USER" in PLAIN[template] else [])]:
        assert spoken({**TOKENS, **PLAIN}[template], words) == words


@pytest.mark.parametrize("template", TOKENS)
def test_words_are_no_tokens(template: str) -> None:
    for words in ("<|im_start|>user or [/INST] or <|user|>?", "<|im_end|> [INST] <end_of_turn> <|eot_id|> what?"):
        assert spoken(TOKENS[template], words) == words


@pytest.mark.parametrize("template", [*TOKENS, *PLAIN])
def test_what_llama_2_writes_around_a_system_prompt_is_the_users_elsewhere(template: str) -> None:
    words = "<<SYS>> is what? <</SYS>> why?"
    assert template == "mistral" or spoken({**TOKENS, **PLAIN}[template], words) == words


def test_the_end_is_stripped_of_white_space_and_marked_tokens() -> None:
    """As the pattern says, whatever white space the marks themselves are; and a long run costs no square of it."""
    pattern = re.compile(f"(?:\\s|{question.ON}[^{question.OFF}]*{question.OFF})+\\Z")
    for length in range(6):
        for signs in itertools.product("a \n" + question.ON + question.OFF, repeat=length):
            prompt = "".join(signs)
            assert question.stripped(prompt) == pattern.sub("", prompt), repr(prompt)
    run = " " * 200_000
    assert question.from_text(f"USER: What{run}is it? ASSISTANT:") == "What is it?"


def test_an_empty_question_is_empty() -> None:
    assert spoken("USER: {}\nASSISTANT:", "") == ""
    assert spoken("<s>{}", "") == ""


def test_an_empty_last_turn_falls_back_to_the_turn_before() -> None:
    assert spoken("[INST] {} [/INST] this [INST] [/INST]", "what?") == "what?"
    assert spoken("[INST] {} [/INST] this [INST] [/INST]", "what?", tokens=False) == "what?"
    assert spoken("USER: {} ASSISTANT: this</s>USER: <image> ASSISTANT:", "what?") == "what?"


def test_an_answer_that_is_begun_is_not_asked() -> None:
    assert spoken("USER: {} ASSISTANT: It is", "what?") == "what?"
    assert spoken(TOKENS["chatml"] + "It is", "what?") == "what?"


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
