"""A session writes the prompt as the model knows it and times only the language model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import tiny
import torch

import herovlm
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


def test_prefill_reads_the_whole_prompt_and_leaves_it_unused(models: Models) -> None:
    one = made(models)
    inputs = one.inputs([tiny.picture(60, 60)], "why?")
    short = herovlm.drop(one.model, inputs, keep=0.5, question="why?")
    alone = one.model.generate(**short, max_new_tokens=5, do_sample=False)
    seconds, size = session.prefill(one.model, short)
    text = one.model.config.text_config
    channels = text.hidden_size // text.num_attention_heads
    each = 2 * text.num_hidden_layers * text.num_key_value_heads * channels * 4
    assert size == each * short["input_ids"].shape[1]
    assert 0 < seconds < 60
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


def test_every_stage_is_timed_by_itself(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter((0.0, 1.0, 3.0))
    monkeypatch.setattr("herovlm.cost.clock.time.perf_counter", lambda: next(ticks))
    monkeypatch.setattr(session, "prefill", lambda _, __: (7.0, 8))
    answer = made(models).answer([tiny.picture(60, 60)], "why?", "hero", 0.5, 1)
    assert (answer.vision, answer.choosing, answer.prefill, answer.cache) == (1.0, 2.0, 7.0, 8)


def test_an_answer_that_takes_too_long_is_cut_off(models: Models) -> None:
    one, photo = made(models), [tiny.picture(60, 60)]
    whole = one.answer(photo, "why?", "full", 1.0, 8)
    short = replace(one, limit=1e-9).answer(photo, "why?", "full", 1.0, 8)
    assert len(short.text) < len(whole.text)
    assert whole.text.startswith(short.text)
