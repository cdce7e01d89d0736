"""A question becomes the prompt that the processor's own chat template writes, for every family."""

from __future__ import annotations

import re
from typing import Any

import pytest
import tiny
import tiny_models

from herovlm import registry
from herovlm.errors import InputsError
from herovlm.prompt.template import interleaved, prompt

QUESTION = "What is it?"


@pytest.mark.parametrize("kind", [kind for kind in tiny_models.here() if kind in registry.FAMILIES])
@pytest.mark.parametrize("pictures", [1, 2])
def test_the_prompt_is_the_processors_own(kind: str, pictures: int) -> None:
    made = tiny_models.load(kind)
    text = prompt(made.processor, QUESTION, pictures)
    assert text == made.chat(pictures, QUESTION)
    assert made.count(made.inputs([[tiny.picture(60, 31)] * pictures], [text]))[0] > 0
    with pytest.raises(InputsError, match="stands for a picture"):
        prompt(made.processor, f"{tiny_models.family(kind).IMAGE} {QUESTION}", pictures)


@pytest.mark.parametrize("template", [None, "{% for m in messages %}{{ m['role'] }}: hello{% endfor %}"])
def test_a_template_that_shows_no_pictures_is_not_taken(models: Any, template: str | None) -> None:
    made = models("llava")
    before = made.processor.chat_template
    made.processor.chat_template = template
    try:
        assert prompt(made.processor, QUESTION, 2) == f"USER: <image><image>\n{QUESTION} ASSISTANT:"
    finally:
        made.processor.chat_template = before


@pytest.mark.parametrize("kind", [kind for kind in tiny_models.here() if kind in registry.FAMILIES])
def test_pictures_stand_between_texts_in_every_family(kind: str) -> None:
    made = tiny_models.load(kind)
    text = interleaved(made.processor, ["first ", None, " then ", None, " last?"])
    own = made.chat(2, QUESTION)
    signs = re.findall(r"<[^<>]*>|\[\w+\]", own)
    assert [text.count(sign) for sign in signs] == [own.count(sign) for sign in signs]
    pictures = [[tiny.picture(60, 31)] * 2]
    assert made.count(made.inputs(pictures, [text])) == made.count(made.inputs(pictures, [own]))
    words = [text.index(word) for word in ("first ", " then ", " last?")]
    images = [found.start() for found in re.finditer(re.escape(tiny_models.family(kind).IMAGE), text)]
    assert words[0] < images[0] < words[1] < images[1] < words[2]
    with pytest.raises(InputsError, match="stands for a picture"):
        interleaved(made.processor, [f"{tiny_models.family(kind).IMAGE}", None])
