"""A measured answer is a real answer, taken apart into stages that add up."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from herovlm import api
from herovlm.cost import run, shapes
from herovlm.cost.run import answering, ideal

STAGES = ("vision", "selection", "prefill")


def asked(method: str, keep: float | int) -> api.Request:
    return api.Request.of(method, keep=keep, question="Hi?")


class Steps:
    """A clock on which every mark is one second later."""

    def __init__(self, _device: torch.device) -> None:
        self.now = 0.0

    def mark(self) -> float:
        self.now += 1
        return self.now

    start = mark

    def seconds(self, marks: list[float]) -> list[float]:
        return [b - a for a, b in pairwise(marks)]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "Clock", Steps)


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize(("method", "keep"), [("hero", 0.5), ("full", 1.0), ("hero + fastv(layer=1)", 0.5)])
def test_every_token_is_marked_once(models: Any, method: str, keep: float) -> None:
    model = models("llava_next").model
    found = answering(model, shapes.prompt(model, batch=2), asked(method, keep), new_tokens=(1, 3, 5))()
    assert found.pop("peak") > 0
    assert found == {
        **dict.fromkeys(STAGES, 1),
        "first_token": 3,
        "decode": 1,
        "answer 1": 3,
        "answer 3": 5,
        "answer 5": 7,
    }


@pytest.mark.usefixtures("steps")
def test_the_ideal_has_the_same_stages(models: Any) -> None:
    model = models("llava_next").model
    found = ideal(model, shapes.prompt(model), 9)()
    assert {**found, "peak": 0} == {**dict.fromkeys(STAGES, 1), "first_token": 3, "answer 1": 3, "peak": 0}


def test_stages_add_up(models: Any) -> None:
    model = models("llava_next").model
    found = answering(model, shapes.prompt(model), asked("hero", 0.5), new_tokens=(1, 4))()
    assert found["first_token"] == pytest.approx(sum(found[stage] for stage in STAGES)) == found["answer 1"]
    assert found["answer 4"] > found["answer 1"]


def given(model: Any, ways: list[Any], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the LLM was asked to read in each run."""
    seen: list[dict[str, Any]] = []
    generate = type(model).generate

    def watched(self: Any, **inputs: Any) -> Any:
        seen.append(inputs)
        return generate(self, **inputs)

    monkeypatch.setattr(type(model), "generate", watched)
    for way in ways:
        way()
    return seen


def test_the_ideal_reads_as_many_positions_as_the_method_leaves(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models("llava_next").model
    inputs = shapes.prompt(model, batch=2)
    positions = api.shorten(model, inputs, asked("hero", 0.3)).kept[0].positions
    ways = [answering(model, inputs, asked("hero", 0.3)), ideal(model, inputs, positions)]
    method, perfect = given(model, ways, monkeypatch)
    assert torch.equal(method["input_ids"], perfect["input_ids"])
    assert torch.equal(method["attention_mask"], perfect["attention_mask"])
    sizes = [[x.shape for x in one["mm_encoder_outputs"]["image"].pooler_output] for one in (method, perfect)]
    assert sizes[0] == sizes[1] == [(positions, model.config.text_config.hidden_size)] * 2


def test_with_all_positions_the_untouched_model_is_measured(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models("llava_next").model
    inputs, projector = shapes.prompt(model), model.model.multi_modal_projector
    hooks = len(projector._forward_hooks)
    (asked_for,) = given(model, [answering(model, inputs, asked("full", 1.0))], monkeypatch)
    assert all(asked_for[name] is value for name, value in inputs.items())
    assert "mm_encoder_outputs" not in asked_for
    assert len(projector._forward_hooks) == hooks


def test_the_ideal_pays_for_the_whole_tower(models: Any) -> None:
    model = models("llava_next").model
    inputs, looked = shapes.prompt(model), []
    handle = model.model.multi_modal_projector.register_forward_hook(lambda _m, args, _out: looked.append(args[0]))
    ideal(model, inputs, 9)()
    handle.remove()
    assert [len(states) for states in looked] == [inputs["pixel_values"].shape[1]]
