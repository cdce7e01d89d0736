"""Messages and options of a task, as the model reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
from jinja2 import Template
from PIL import Image

from herovlm import InputsError, ModelError, PictureError, UnsupportedError
from herovlm.eval.lmms.prompts import cut, generation_of, prompt_of

TEMPLATE = """\
{%- for turn in messages %}{{ turn['role'] | upper }}: {% for part in turn['content'] -%}
{% if part['type'] == 'image' %}<image>
{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor -%}
{% if add_generation_prompt %}ASSISTANT:{% endif %}"""


def render(turns: Any, add_generation_prompt: bool, tokenize: bool) -> str:
    return str(Template(TEMPLATE).render(messages=turns, add_generation_prompt=add_generation_prompt))


@pytest.fixture
def processor() -> Any:
    return SimpleNamespace(chat_template=TEMPLATE, image_token="<image>", apply_chat_template=render)


def user(*parts: Any) -> dict[str, Any]:
    """A turn of the user: text, or a picture as a task of lmms-eval gives it."""
    content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image", "url": p} for p in parts]
    return {"role": "user", "content": content}


def test_pictures_and_text_keep_their_order(processor: Any) -> None:
    first, second = tiny.picture(20, 30).convert("RGBA"), tiny.picture(40, 20)
    prompt = prompt_of([user(first, "Same as", second, "here?")], processor)
    assert prompt.text == "USER: <image>\nSame as<image>\nhere? ASSISTANT:"
    assert [(picture.mode, picture.size) for picture in prompt.pictures] == [("RGB", (20, 30)), ("RGB", (40, 20))]
    assert prompt.question == "Same as here?"


def test_the_question_is_the_last_of_the_user(processor: Any) -> None:
    system = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "Two."}]}
    prompt = prompt_of([system, user(tiny.picture(9, 9), "How many?"), answer, user("And dogs?")], processor)
    assert prompt.question == "And dogs?"
    assert prompt.text == "SYSTEM: Be brief. USER: <image>\nHow many? ASSISTANT: Two. USER: And dogs? ASSISTANT:"


def test_a_picture_may_be_a_file(processor: Any, tmp_path: Path) -> None:
    tiny.picture(12, 7).save(tmp_path / "a.png")
    url: Any = tmp_path / "a.png"
    assert prompt_of([{"role": "user", "content": [{"type": "image", "url": str(url)}]}], processor).pictures[
        0
    ].size == (
        12,
        7,
    )
    with pytest.raises(PictureError, match=r"b\.png"):
        prompt_of([{"role": "user", "content": [{"type": "image", "url": str(tmp_path / "b.png")}]}], processor)


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_what_is_no_picture_is_refused(processor: Any, kind: str) -> None:
    with pytest.raises(UnsupportedError, match=kind):
        prompt_of([{"role": "user", "content": [{"type": kind, "url": "a.mp4"}]}], processor)


def test_a_placeholder_in_the_text_is_not_taken_for_a_picture(processor: Any) -> None:
    with pytest.raises(InputsError, match="2 placeholders '<image>' for 1 pictures"):
        prompt_of([user(Image.new("RGB", (9, 9)), "what does <image> mean?")], processor)


def test_a_checkpoint_without_a_template_is_refused(processor: Any) -> None:
    processor.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        prompt_of([user("Hi?")], processor)


def test_greedy_unless_there_is_a_temperature() -> None:
    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    for asked in ({}, {"temperature": 0, "top_p": 1.0}, {"do_sample": True}, {"do_sample": False, "temperature": 0.7}):
        options, _, _ = generation_of(asked, 7)
        assert options == {"max_new_tokens": 7, **greedy}
    options, _, _ = generation_of({"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 5}, 7)
    assert options == {"max_new_tokens": 5, "temperature": 0.7, "top_p": 0.9, "do_sample": True}


def test_options_of_others_are_named_and_left_out() -> None:
    asked = {"until": "\n\n", "num_beams": 2, "image_aspect_ratio": "original", "repetition_penalty": 1.1}
    options, until, unknown = generation_of(asked, 7)
    assert (options["num_beams"], options["repetition_penalty"]) == (2, 1.1)
    assert until == ["\n\n"]
    assert unknown == ["image_aspect_ratio"]
    assert not {"until", "image_aspect_ratio"} & {*options}


def test_an_answer_ends_at_the_first_of_the_strings() -> None:
    assert cut("\n\na cat\n\nUSER: b", ["USER:", "\n\n", ""]) == "a cat"
    assert cut("a cat USER: b\n\nc", ["\n\n", "USER:"]) == "a cat"
    assert cut(" a cat ", ["ASSISTANT:"]) == "a cat"
    assert cut("a cat", []) == "a cat"


def test_real_templates_are_read(models: Callable[..., tiny.Tiny], tmp_path: Path) -> None:
    models("llava_next").processor.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE, "utf-8")
    from transformers import AutoProcessor

    real = AutoProcessor.from_pretrained(tmp_path)
    assert prompt_of([user(tiny.picture(9, 9), "Hi?")], real).text == "USER: <image>\nHi? ASSISTANT:"


def test_a_picture_is_the_same_as_a_file_and_in_memory(processor: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = Image.new("RGBA", (30, 20), (0, 0, 0, 0))
    clear.paste((200, 0, 0, 128), (4, 0, 18, 8))
    twelve = Image.fromarray(np.linspace(0, 4095, 600).reshape(20, 30).astype("uint16"))
    for image, more in ((clear, {}), (twelve, {}), (tiny.picture(30, 20), {"exif": exif})):
        image.save(tmp_path / "a.png", **more)
        with Image.open(tmp_path / "a.png") as opened:
            memory, file = (prompt_of([user(url)], processor).pictures[0] for url in (opened, tmp_path / "a.png"))
        assert (memory.size, memory.tobytes()) == (file.size, file.tobytes())
