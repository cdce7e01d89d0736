"""What is counted for a prompt is what the model holds and does with it."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import tiny_models
import torch

from herovlm import Request, View, api, registry
from herovlm.budget import Tokens
from herovlm.cost import count, shapes, theory
from herovlm.cost.flops import counter
from herovlm.cost.survey import survey
from herovlm.errors import BudgetError
from herovlm.methods.random import Random


def counted(model: Any, inputs: Any, method: str, keep: float) -> dict[str, int]:
    return count.counted(model, inputs, api.Request.of(method, keep=keep, question="Hi?"))


@pytest.mark.parametrize("method", ["full", "hero", "random", "fastv", "hero + fastv(layer=1)"])
def test_the_cache_holds_what_is_counted(models: Any, method: str) -> None:
    model = models("llava_next", layers=4).model
    found = counted(model, shapes.prompt(model, batch=2), method, 0.8)
    assert found["cache"] == found["cache_held"]
    parts = found["vision"] + found["selection"] + found["prefill"]
    assert found["first_token"] == parts > found["decode"] > 0


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_torch_counts_in_a_run_what_the_formulas_say(attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the masked half of attention, which a run works through."""
    model = tiny.make(attention=attention).model
    inputs, text = shapes.prompt(model, batch=2), model.config.text_config
    formula = counted(model, inputs, "random", 0.5)
    with torch.no_grad(), counter() as found:
        model.get_image_features(inputs["pixel_values"], inputs["image_sizes"])
    tiles = inputs["pixel_values"][..., 0, 0, 0].numel()
    config = model.config
    assert found.get_total_flops() == theory.vision(config.vision_config, tiles) + theory.projector(config, tiles)
    monkeypatch.setattr(theory, "describes", lambda *_: False)
    run = counted(model, inputs, "random", 0.5)
    assert {name for name in run if run[name] != formula[name]} <= {"prefill", "first_token"}
    length = inputs["input_ids"].shape[1] - run["of"] + run["positions"]
    masked = text.num_hidden_layers * 2 * theory.matmul(length * (length - 1) // 2, text.hidden_size, 1)
    assert run["prefill"] == formula["prefill"] + 2 * masked


@pytest.mark.parametrize("kind", [kind for kind in tiny_models.here() if kind in registry.FAMILIES])
def test_every_family_is_counted(kind: str) -> None:
    """The towers that the formulas describe are CLIP's, the language models those that run through as many weights."""
    made = tiny_models.load(kind)
    found = counted(made.model, shapes.prompt(made.model, text=9), "divprune", 0.5)
    assert found["cache"] == found["cache_held"] > 0
    assert min(found[what] for what in ("vision", "selection", "prefill", "decode")) > 0
    layers = made.model.get_decoder().layers
    experts_or_linear = kind.endswith("_moe") or kind.startswith("qwen3_5")
    assert theory.describes(made.model.config.get_text_config(), layers) is not experts_or_linear


def test_what_is_recorded_of_another_tower_is_counted() -> None:
    model = tiny_models.load("internvl").model
    inputs = shapes.prompt(model, text=9)
    plain, rows = (counted(model, inputs, name, 0.5) for name in ("uniform", "cls_topk"))
    assert plain["selection"] < rows["selection"]
    assert plain["vision"] == rows["vision"] == count.plain(model, inputs)


def test_fewer_positions_cost_less_and_the_tower_the_same(models: Any) -> None:
    model = models("llava_next").model
    inputs = shapes.prompt(model)
    much, little = (counted(model, inputs, "random", keep) for keep in (0.8, 0.2))
    assert much["positions"] == round(0.8 * much["of"])
    assert much["vision"] == little["vision"]
    assert all(much[what] > little[what] for what in ("prefill", "decode", "cache"))


def test_a_batch_costs_as_much_as_its_prompts(models: Any) -> None:
    model = models("llava_next").model
    one, three = (counted(model, shapes.prompt(model, batch), "hero", 0.3) for batch in (1, 3))
    for what in ("vision", "prefill", "decode", "cache"):
        assert three[what] == 3 * one[what], what
    assert [three[what] for what in ("positions", "of", "tiles")] == [
        one[what] for what in ("positions", "of", "tiles")
    ]


def test_methods_pay_for_what_they_record_and_compare(models: Any) -> None:
    model = models("llava_next").model
    inputs = shapes.prompt(model)
    vision = model.config.vision_config
    hero, diverse, random = (counted(model, inputs, name, 0.3) for name in ("hero", "divprune", "random"))
    assert random["selection"] == 0
    assert hero["selection"] >= 3 * inputs["pixel_values"].shape[1] * 2 * vision.hidden_size * 17  # its three CLS rows
    patches = 16 * inputs["pixel_values"].shape[1]
    assert diverse["selection"] >= theory.matmul(patches, 32, patches), "all pairs of patches"
    assert hero["vision"] > random["vision"], "whoever reads the last block pays for it"


PLAN = (("full", 1.0), ("hero", 0.3), ("fastv(layer=1)", 0.1), ("random", Tokens(10)))


def test_a_survey_counts_and_measures_every_pair(models: Any) -> None:
    model, said = models("llava_next").model, []
    found = survey(model, shapes.prompt(model, 2), PLAN, new_tokens=(1, 3), rounds=3, question="Hi?", step=said.append)
    assert found["batch"] == 2
    assert [(row["method"], row["keep"]) for row in found["rows"]] == [("full", 1.0), ("hero", 0.3), ("random", "10t")]
    (refused,) = found["refused"]
    assert refused["method"] == "fastv(layer=1)"
    assert "cannot keep" in refused["error"]
    full, hero, random = found["rows"]
    assert random["theory"]["positions"] == 10
    assert (full["less"], full["faster"]) == (1, 1)
    assert hero["less"] == pytest.approx(full["theory"]["first_token"] / hero["theory"]["first_token"], abs=1e-4)
    for row in found["rows"]:
        assert {"vision", "selection", "prefill", "first_token", "decode", "answer 1", "answer 3"} == {*row["seconds"]}
        for spread in (*row["seconds"].values(), row["peak"]):
            assert 0 <= spread["min"] <= spread["median"] <= spread["max"]
    assert len(said) == len(PLAN) + 3 * (1 + 3)


def test_a_survey_without_the_whole_model_compares_with_nothing(models: Any) -> None:
    model = models("llava_next").model
    (row,) = survey(model, shapes.prompt(model), [("random", 0.5)], rounds=1)["rows"]
    assert {"less", "faster"} & {*row} == set()


def test_a_survey_of_nothing_says_why(models: Any) -> None:
    model = models("llava_next").model
    with pytest.raises(BudgetError, match="cannot keep"):
        survey(model, shapes.prompt(model), [("fastv(layer=1)", 0.1)])


@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_method_that_breaks_is_left_out_of_the_race(models: Any, monkeypatch: pytest.MonkeyPatch, when: int) -> None:
    """It may break while it is counted, in the round that does not count, or later."""
    choose, calls = Random.choose, []

    def fails(*args: Any) -> Any:
        calls.append(1)
        if len(calls) >= when:
            raise RuntimeError("sizes should be greater than 0")
        return choose(*args)

    monkeypatch.setattr(Random, "choose", fails)
    model = models("llava_next").model
    found = survey(model, shapes.prompt(model), [("random", 0.5), ("pool", 0.5)], rounds=2)
    assert [row["method"] for row in found["rows"]] == ["pool"]
    lost = {"error": "RuntimeError: sizes should be greater than 0", "failed": True}
    assert found["refused"] == [{"method": "random", "keep": 0.5, **lost}]
    with pytest.raises(RuntimeError, match="greater than 0"):
        survey(model, shapes.prompt(model), [("random", 0.5)], rounds=1)


def test_memory_that_runs_out_is_a_row_of_its_own(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models("llava_next").model
    choose = View.choose

    def small(view: View, request: Request) -> Any:
        if request.all:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return choose(view, request)

    monkeypatch.setattr(View, "choose", small)
    found = survey(model, shapes.prompt(model), [("full", 1.0), ("random", 0.5)], rounds=1)
    assert [row["method"] for row in found["rows"]] == ["random"]
    assert found["refused"][0]["error"] == "OutOfMemoryError: CUDA out of memory"
