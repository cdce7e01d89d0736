"""A session writes the prompt as the model knows it, answers, and times what it did side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import tiny
import torch

import herovlm
from herovlm import api
from herovlm.cli import load, session
from herovlm.errors import InputsError

Models = Callable[..., tiny.Tiny]


def made(models: Models, family: str = "llava_next") -> session.Session:
    one = models(family)
    return session.Session(one.model, one.processor, "tiny")


def test_without_a_template_the_prompt_is_plain(models: Models) -> None:
    assert made(models).prompt(2, "why?") == "USER: <image><image>\nwhy? ASSISTANT:"


def test_the_template_of_the_processor_is_used(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(models)
    template = (
        "{% for m in messages %}[{{ m['role'] }}]{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}[bot]{% endif %}"
    )
    monkeypatch.setattr(one.processor, "chat_template", template)
    assert one.prompt(2, "why?") == "[user]<image><image>why?[bot]"
    monkeypatch.setattr(one.processor, "chat_template", "no pictures here")
    assert one.prompt(1, "why?") == "USER: <image>\nwhy? ASSISTANT:"


def test_a_placeholder_in_the_question_is_refused(models: Models) -> None:
    with pytest.raises(InputsError, match="another way"):
        made(models).prompt(1, "what is an <image>?")


@pytest.mark.parametrize(("family", "fit"), [("llava_next", "squeeze"), ("llava", "crop")])
def test_the_page_knows_how_a_tile_is_made(
    models: Models, family: str, fit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(models, family)
    assert one.fit == fit
    if family == "llava":
        monkeypatch.setattr(one.processor.image_processor, "do_pad", True)
        assert one.fit == "pad"


def test_the_cache_is_that_of_the_whole_prompt_and_leaves_it_unused(models: Models) -> None:
    one = made(models)
    inputs = one.inputs([tiny.picture(60, 60)], "why?")
    short = herovlm.drop(one.model, inputs, keep=0.5, question="why?")
    alone = one.model.generate(**short, max_new_tokens=5, do_sample=False)
    text = one.model.config.text_config
    channels = text.hidden_size // text.num_attention_heads
    each = 2 * text.num_hidden_layers * text.num_key_value_heads * channels * 4
    assert session.cache_of(one.model, short) == each * short["input_ids"].shape[1]
    assert torch.equal(one.model.generate(**short, max_new_tokens=5, do_sample=False), alone)


def test_the_record_of_an_answer_is_light(models: Models) -> None:
    answer = made(models).answer([tiny.picture(60, 60)], "why?", "hero", 0.5, 2)
    ((seen, kept),) = answer.views
    assert seen.features is None
    assert not seen.attention
    assert kept.why
    assert answer.positions == kept.positions
    assert answer.of == seen.positions


def test_a_method_inside_the_model_works_in_prefill_and_answer(models: Models) -> None:
    one = made(models)
    plain = one.answer([tiny.picture(60, 60)], "why?", "hero", 0.5, 5)
    answer = one.answer([tiny.picture(60, 60)], "why?", "hero + fastv(layer=1, keep=0.5)", 0.5, 5)
    (kept,) = answer.inside
    assert kept.positions == (answer.positions, round(answer.positions / 2))
    text = one.model.config.text_config
    column = 2 * text.num_key_value_heads * text.hidden_size // text.num_attention_heads * 4
    assert plain.cache - answer.cache == column * (kept.positions[0] - kept.positions[1])
    assert plain.inside == ()
    inputs = one.inputs([tiny.picture(60, 60)], "why?")
    with herovlm.dropping(one.model, method=answer.method, keep=0.5, question="why?"):
        out = one.model.generate(**inputs, max_new_tokens=5, do_sample=False)
    new = out[0, inputs["input_ids"].shape[1] :]
    assert one.processor.tokenizer.decode(new, skip_special_tokens=True).strip() == answer.text


def test_other_libraries_are_quiet_only_inside() -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with load.quiet():
        assert not logging.is_progress_bar_enabled()
        assert logging.get_verbosity() > 40
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


class Steps:
    """A clock on which every mark is one second later."""

    def __init__(self, _device: object) -> None:
        self.now = 0.0

    def mark(self) -> float:
        self.now += 1
        return self.now

    start = mark

    def seconds(self, marks: list[float]) -> list[float]:
        return [b - a for a, b in pairwise(marks)]


def test_every_stage_is_timed_by_itself(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "Clock", Steps)
    answer = made(models).answer([tiny.picture(60, 60)], "why?", "hero", 0.5, 4)
    assert (answer.vision, answer.choosing, answer.prefill, answer.first_token) == (1, 1, 1, 3)
    assert answer.seconds == 3 + answer.writing > 3


def test_answers_are_timed_side_by_side(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each round every method runs once, so that what disturbs a round disturbs all."""
    one, photo, plan = made(models), [tiny.picture(60, 60)], [("full", 1.0), ("hero", 0.5)]
    answers = [replace(one.answer(photo, "why?", *pair, 2), vision=1.0) for pair in plan]
    asked: list[str] = []

    def answering(_model: object, _inputs: object, options: api.Request) -> Callable[[], dict[str, float]]:
        def way() -> dict[str, float]:
            asked.append(options.method.name)
            return {"vision": float(len(asked)), "selection": 0.0, "prefill": 0.25}

        return way

    monkeypatch.setattr(session, "answering", answering)
    monkeypatch.setattr(session, "RUNS", 3)
    monkeypatch.setattr(session, "ENOUGH", 99.0)
    timed = one.timed(photo, "why?", plan, answers)
    rounds = [asked[i : i + 2] for i in range(0, len(asked), 2)]
    assert [sorted(names) for names in rounds] == [["full", "hero"]] * 3
    assert {answer.vision for answer in timed} == {float(asked.index(n, 2, 4) + 1) for n in ("full", "hero")}
    assert [answer.text for answer in timed] == [answer.text for answer in answers]
    assert all((answer.prefill, answer.rounds) == (0.25, 3) for answer in timed)
    assert all(answer.rounds == 1 for answer in answers)


def test_a_model_that_takes_minutes_is_not_asked_again_for_its_time(models: Models) -> None:
    one, photo = made(models), [tiny.picture(60, 60)]
    slow = replace(one.answer(photo, "why?", "full", 1.0, 1), prefill=31.0)
    assert one.timed(photo, "why?", [("full", 1.0)], [slow]) == (slow,)


def test_an_answer_can_be_stopped_between_stages_and_at_each_token(models: Models) -> None:
    one, photo, plain = made(models), [tiny.picture(60, 60)], tiny.make()
    stages = 2
    for beats in (1, stages, stages + 1, stages + 3):
        left = iter(range(beats))

        def pulse(left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyError

        with pytest.raises(KeyError):
            one.answer(photo, "why?", "hero", 0.5, 8, pulse)
    want = session.Session(plain.model, plain.processor, "tiny").answer(photo, "why?", "hero", 0.5, 8).text
    assert one.answer(photo, "why?", "hero", 0.5, 8).text == want


def test_an_answer_that_takes_too_long_is_cut_off(models: Models) -> None:
    one, photo = made(models), [tiny.picture(60, 60)]
    whole = one.answer(photo, "why?", "full", 1.0, 8)
    short = replace(one, limit=1e-9).answer(photo, "why?", "full", 1.0, 8)
    assert len(short.text) < len(whole.text)
    assert whole.text.startswith(short.text)
