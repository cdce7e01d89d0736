"""IGVA: equal weights are the mean, the start is the plain model, a question has its own features in any company."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_models
import torch
from made_parts import made, written

import herovlm
from herovlm import Request, modules, registry, see
from herovlm.modules import fusion
from herovlm.types import Needs

QUESTIONS = ("Is it red?", "How many crosses are there?", "Where?")


@pytest.fixture(scope="module", params=["llava_next", "llava"])
def small(models: Any, request: pytest.FixtureRequest) -> tiny.Tiny:
    own: tiny.Tiny = models(request.param)
    return own


@pytest.fixture
def folder(small: tiny.Tiny, tmp_path: Path) -> Path:
    return written(small.model, made(small.model), tmp_path / "mine")


@pytest.fixture
def attached(small: tiny.Tiny, folder: Path) -> Iterator[modules.Attached]:
    with modules.attach(small.model, folder) as own:
        yield own


def inputs_of(small: tiny.Tiny, *questions: str) -> Any:
    pictures = [[tiny.picture(60 - 20 * n, 31, n)] for n in range(len(questions))]
    return small.inputs(pictures, [f"USER: <image>\n{question} ASSISTANT:" for question in questions])


def features(
    small: tiny.Tiny, inputs: Any, question: Any, method: str = "full", keep: float = 1.0
) -> list[torch.Tensor]:
    """What reaches the language model of each image."""
    short = herovlm.drop(small.model, inputs, method=method, keep=keep, question=question, processor=small.processor)
    packed = short["mm_encoder_outputs"]["image"].pooler_output
    return list(packed)


def states_of(small: tiny.Tiny, inputs: Any) -> list[torch.Tensor]:
    """All hidden states of the first picture's tiles."""
    pixels = inputs["pixel_values"]
    with torch.no_grad():
        tower = small.model.model.vision_tower
        states: list[torch.Tensor] = list(tower(pixels.flatten(0, -4), output_hidden_states=True).hidden_states)
    return states


def test_layers_are_the_means_of_hidden_states(small: tiny.Tiny) -> None:
    inputs = inputs_of(small, "Hi?")
    (seen,) = see(small.model, inputs, needs=Needs(layers=((1,), (2, 3), (4,)))).seen(Needs())
    states = states_of(small, inputs)
    want = torch.stack([states[1], (states[2] + states[3]) / 2, states[4]], 1)
    torch.testing.assert_close(seen.layers, want[: len(seen.valid)])


def test_equal_weights_are_the_mean(small: tiny.Tiny) -> None:
    layers, plain = torch.randn(3, 4, 5, 32), torch.randn(3, 4, 32)
    found = fusion.fused(plain, layers, torch.full((4,), 0.25))
    torch.testing.assert_close(found, torch.cat([plain, layers[:, :, 1:].mean(1)], -1))


def test_balance_is_least_where_all_count_the_same() -> None:
    even, odd = torch.full((1, 4), 0.25), torch.tensor([[0.7, 0.1, 0.1, 0.1]])
    assert fusion.balance(even).item() == pytest.approx(-torch.log(torch.tensor(4.0)).item(), abs=1e-5)
    assert fusion.balance(even) < fusion.balance(odd) < 0


def test_layers_are_divided_into_groups() -> None:
    assert fusion.groups_of(24) == tuple(tuple(range(6 * k + 1, 6 * k + 7)) for k in range(4))
    assert [len(group) for group in fusion.groups_of(10)] == [3, 3, 2, 2]
    with pytest.raises(herovlm.ModelError, match="3 block"):
        fusion.groups_of(3)


def test_features_are_those_of_the_formula(small: tiny.Tiny, attached: modules.Attached) -> None:
    inputs, part = inputs_of(small, QUESTIONS[0]), attached.part
    view = see(small.model, inputs, Request.of("full", question=QUESTIONS[0]))
    (seen,) = view.choose(Request.of("full", question=QUESTIONS[0])).seen
    states = states_of(small, inputs)[: 1 + len(small.model.model.vision_tower.encoder.layers)]
    states = [one[: len(seen.valid)] for one in states]
    layers = torch.stack(states[1:], 1)  # four blocks, four groups
    ids = tiny.clip_tokenizer()(QUESTIONS[0], return_tensors="pt").input_ids
    with torch.no_grad():
        text = small.clip.get_text_features(ids).pooler_output
        weights = part.fusion.aggregator(text / text.norm(), layers[:1, :, 0])[0]
        mixed = sum(weight * states[n][:, 1:] for n, weight in enumerate(weights, 1))
        want = part.fusion.projector(torch.cat([states[-2][:, 1:], mixed], -1))
    torch.testing.assert_close(seen.features, want.masked_fill(~seen.valid[..., None], 0), rtol=1e-4, atol=1e-4)


def test_the_start_is_the_plain_model(small: tiny.Tiny, tmp_path: Path) -> None:
    start = made(small.model)
    start.projector = fusion.widened(small.model.model.multi_modal_projector)
    inputs = inputs_of(small, *QUESTIONS)
    plain = features(small, inputs, None, "hero", 0.5)
    with modules.attach(small.model, written(small.model, start, tmp_path / "start")):
        fused = features(small, inputs, None, "hero", 0.5)
    for one, other in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_question_in_a_batch_has_the_features_that_it_has_alone(small: tiny.Tiny, attached: Any) -> None:
    together = features(small, inputs_of(small, *QUESTIONS), None)
    for n, question in enumerate(QUESTIONS):
        alone = small.inputs([[tiny.picture(60 - 20 * n, 31, n)]], [f"USER: <image>\n{question} ASSISTANT:"])
        torch.testing.assert_close(together[n], features(small, alone, None)[0], rtol=1e-4, atol=1e-4)
        other = features(small, alone, QUESTIONS[n - 1])[0]
        assert not torch.allclose(together[n], other, atol=1e-3), "the question counts"


def test_other_questions_of_a_view_have_their_own_features(small: tiny.Tiny, attached: Any) -> None:
    request = Request.of("full", keep=1.0, processor=small.processor)
    alone = [inputs_of(small, question) for question in QUESTIONS]
    view = see(small.model, alone[0], request)
    for question, one in zip(QUESTIONS, alone, strict=True):
        (own,) = view.under(one["input_ids"], one["attention_mask"], [0]).choose(request).seen
        (want,) = see(small.model, one, request).choose(replace(request, question=question)).seen
        torch.testing.assert_close(own.features, want.features)


def test_threads_do_not_mix_their_questions(small: tiny.Tiny, attached: Any) -> None:
    inputs = inputs_of(small, "Hi?")
    alone = [features(small, inputs, question)[0] for question in QUESTIONS]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda question: features(small, inputs, question)[0], QUESTIONS * 3))
    for n, own in enumerate(found):
        torch.testing.assert_close(own, alone[n % len(alone)])


@pytest.mark.parametrize("method", [name for name in registry.METHODS if name != "globalcom2"])
def test_every_method_sends_fused_features(models: Any, tmp_path: Path, method: str) -> None:
    """What is kept is kept of the fused features: with a projector that gives one value, so do all of them."""
    small: tiny.Tiny = models("llava_next")
    part = made(small.model)
    with torch.no_grad():
        part.projector.linear_2.weight.zero_()
        part.projector.linear_2.bias.fill_(7.0)
    with modules.attach(small.model, written(small.model, part, tmp_path / "seven")):
        (sent,) = features(small, inputs_of(small, "Is it red?"), None, method, 0.4)
    newline = (sent == small.model.model.image_newline).all(-1)
    assert (sent[~newline] == 7.0).all()
    assert len(sent) > newline.sum()


def test_without_a_question_it_is_refused_and_with_dropping_it_answers(small: tiny.Tiny, attached: Any) -> None:
    inputs = inputs_of(small, "Hi?")
    with pytest.raises(herovlm.UnsupportedError, match="depend on the question"):
        small.model(**inputs)
    with herovlm.dropping(small.model, method="full", processor=small.processor):
        assert small.model.generate(**inputs, max_new_tokens=1).shape[1] == inputs["input_ids"].shape[1] + 1


@pytest.mark.parametrize(
    ("how", "match"), [({"narrow": 0.5}, "narrow with IGVA"), ({"keep": "auto"}, "not fused")], ids=["narrow", "auto"]
)
def test_what_makes_no_sense_is_refused(small: tiny.Tiny, attached: Any, how: Any, match: str) -> None:
    with pytest.raises(herovlm.UnsupportedError, match=match):
        herovlm.drop(small.model, inputs_of(small, "Hi?"), method="hero_plus", question="Hi?", **how)


@pytest.mark.parametrize("family", ["internvl", "qwen2_vl", "llava_onevision"])
def test_other_towers_are_refused(family: str, folder: Path) -> None:
    with pytest.raises(herovlm.UnsupportedError, match="CLS states of a CLIP tower"):
        modules.attach(tiny_models.load(family).model, folder)


@pytest.mark.parametrize("end", ["removed", "left", "error"])
def test_no_trace_is_left(small: tiny.Tiny, folder: Path, end: str) -> None:
    inputs, before = inputs_of(small, "Hi?"), trace(small.model)
    plain = features(small, inputs, "Hi?")
    own = modules.attach(small.model, folder)
    assert modules.on(small.model) == (own,)
    if end == "removed":
        own.remove()
        own.remove()
    elif end == "left":
        with own:
            assert not torch.equal(features(small, inputs, "Hi?")[0], plain[0])
    else:
        with pytest.raises(herovlm.HeroError), own:
            features(small, inputs, "")
    assert trace(small.model) == before
    assert modules.on(small.model) == ()
    assert torch.equal(features(small, inputs, "Hi?")[0], plain[0])
    small.model(**inputs)


def trace(model: Any) -> list[Any]:
    """What a part might leave behind: modules, weights, hooks, attributes."""
    return [
        (name, id(module), sorted(vars(module)), len(module._forward_hooks), len(module._forward_pre_hooks))
        for name, module in model.named_modules()
    ]
