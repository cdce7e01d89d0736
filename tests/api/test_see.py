"""Seeing once and asking often: what a view gives is what `drop` gives."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoConfig

import herovlm
from herovlm import choose
from herovlm.errors import BudgetError, HeroError, InputsError, ModelError, UnsupportedError, UsageError
from herovlm.types import Needs, Short

request = herovlm.Request.of
ASKED = [
    request("hero", 0.3, question="Hi?"),
    request("hero_plus", 0.3, question="Ho?"),
    request("vtc_cls", tokens=9, positions="original"),
    request("divprune", 0.5, newlines="touched"),
    request("visionzip", 0.3),
    request("full", 1.0),
    request('hero(variant="official", alpha=1)', 0.6),
    request("hero(alpha=1)", 0.3, narrow=(1, 0.6)),
]
SIZES = [(60, 31), (16, 70), (33, 33)]  # width, height


def prompts(small: tiny.Tiny) -> Any:
    """Three images in two prompts."""
    pictures = [[tiny.picture(60, 31), tiny.picture(16, 70, 1)], [tiny.picture(33, 33, 2)]]
    return small.inputs(pictures, ["USER: <image> or <image>\nWhich? ASSISTANT:", "USER: <image>\nWhat? ASSISTANT:"])


def same(one: Short, other: Short) -> None:
    assert sorted(one) == sorted(other)
    for name in one:
        if isinstance(one[name], torch.Tensor):
            assert torch.equal(one[name], other[name]), name
    features = [dict(short)["mm_encoder_outputs"]["image"].pooler_output for short in (one, other)]
    for a, b in zip(*features, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    for a, b in zip(one.columns, other.columns, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_view_asked_often_is_drop_each_time(models: Any, family: str) -> None:
    small, runs = models(family), []
    inputs = prompts(small)
    tower = small.model.model.vision_tower
    alone = [herovlm.see(small.model, inputs, one).drop(one) for one in ASKED]
    hook = tower.register_forward_pre_hook(lambda *_: runs.append(1))
    view = herovlm.see(small.model, inputs, *ASKED)
    for _ in range(2):
        for one, want in zip(ASKED, alone, strict=True):
            same(view.drop(one), want)
    hook.remove()
    assert len(runs) == 2, "the whole tower once, the narrowed one once"


def test_other_prompts_about_the_same_pictures(models: Any) -> None:
    small = models("llava_next")
    inputs = prompts(small)
    other = small.inputs([[tiny.picture(33, 33, 2)], [tiny.picture(60, 31)]], ["<image>\nA longer one?", "<image>\nB?"])
    for one in ASKED[:-1]:
        view = herovlm.see(small.model, inputs, one)
        under = view.under(other["input_ids"], other["attention_mask"], [2, 0])
        same(under.drop(one), herovlm.see(small.model, other, one).drop(one))
    with pytest.raises(InputsError, match="image"):
        view.under(other["input_ids"], other["attention_mask"], [0, 2])


def test_a_call_without_pictures_stays_as_it_is(models: Any) -> None:
    small = models("llava_next")
    inputs = small.inputs([[], []], ["USER: Hello? ASSISTANT:", "USER: Hi? ASSISTANT:"])
    short = herovlm.see(small.model, inputs, ASKED[0]).drop(ASKED[0])
    assert {name: value for name, value in short.items() if value is not None}.keys() == dict(inputs).keys()
    assert torch.equal(short["input_ids"], inputs["input_ids"])
    assert [len(own) for own in short.columns] == inputs["attention_mask"].sum(1).tolist()


@pytest.mark.parametrize(
    "wrong", [{"pictures": [3, 0]}, {"pictures": [-1, 0]}, {"pictures": 0}, {"ids": [[1, 2]]}, {"mask": "all"}]
)
def test_other_prompts_that_cannot_be_are_errors(models: Any, wrong: dict[str, Any]) -> None:
    small = models("llava_next")
    inputs = prompts(small)
    view = herovlm.see(small.model, inputs, ASKED[0])
    how = {"ids": inputs["input_ids"], "mask": inputs["attention_mask"], "pictures": [0, 1, 2], **wrong}
    with pytest.raises(InputsError):
        view.under(**how)


def test_what_was_not_recorded_is_an_error(models: Any) -> None:
    small = models("llava_next")
    view = herovlm.see(small.model, prompts(small), request("hero(alpha=1)", 0.3))
    for other in (
        request("hero", 0.3, question="?"),
        request("visionzip", 0.3),
        request("hero", 0.3, narrow=(1, 0.5)),
    ):
        with pytest.raises(UsageError, match=r"see\(\)"):
            view.drop(other)
    view.drop(request("random", 0.3))
    needs = Needs(attention=(0,))
    with pytest.raises(UsageError, match=r"see\(\)"):
        view.seen(needs)
    (first, *_) = herovlm.see(small.model, prompts(small), needs=needs).seen(needs)
    assert list(first.attention) == [0]


@pytest.mark.parametrize("method", ["hero", "hero_plus", "uniform", "vtc_cls", "divprune", "globalcom2", "random"])
def test_images_of_one_shape_are_chosen_together_as_they_are_alone(models: Any, method: str) -> None:
    small = models("llava_next")
    pictures = [[tiny.picture(60, 31, seed)] for seed in range(4)] + [[tiny.picture(16, 70)]]
    inputs = small.inputs(pictures, ["USER: <image>\nWhich? ASSISTANT:"] * 5)
    one = request(method, 0.3, question=["a?", "b?", "c?", "d?", "e?"])
    together = herovlm.drop(small.model, inputs, method=method, keep=0.3, question=list(one.question or ""))
    for i, picture in enumerate(pictures):
        single = small.inputs([picture], ["USER: <image>\nWhich? ASSISTANT:"])
        alone = herovlm.drop(small.model, single, method=method, keep=0.3, question="abcde"[i] + "?")
        assert torch.equal(together.kept[i].mask, alone.kept[0].mask)
        assert together.kept[i].positions == alone.kept[0].positions == int(alone.kept[0].mask.sum())


def given_size(small: tiny.Tiny, width: int, height: int) -> Any:
    return small.inputs([[tiny.picture(width, height)]], ["USER: <image>\nWhich? ASSISTANT:"])


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("size", [*SIZES, (7, 9), (400, 20)], ids=str)
def test_a_config_and_a_size_tell_how_many_positions_are_sent(models: Any, family: str, size: tuple[int, int]) -> None:
    small = models(family)
    config = AutoConfig.for_model(**small.model.config.to_dict())
    for one in (
        request("hero(alpha=1)", 0.3),
        request("divprune", tokens=7),
        request("full"),
        request("random", 1.0),
    ):
        counted = herovlm.token_count(config, (size[1], size[0]), one)
        assert counted == herovlm.see(small.model, given_size(small, *size), one).drop(one).kept[0].positions
    one = request("downsample", 0.6, processor=small.processor)
    sent = herovlm.see(small.model, given_size(small, *size), one).drop(one).kept[0].positions
    assert herovlm.token_count(config, (size[1], size[0]), one) == sent


@pytest.mark.parametrize(
    "method", ["random", "uniform", "hero(alpha=1)", "divprune", 'divprune(variant="official")', "pool"]
)
@pytest.mark.parametrize("newlines", ["all", "touched", "none", "canvas", None])
def test_a_budget_too_small_for_its_newlines_is_refused_beforehand(models: Any, method: str, newlines: Any) -> None:
    """By the same error as when the picture has been looked at, and by none where that is none."""
    small = models("llava_next")
    for size in ((400, 20), (20, 400), (50, 50)):
        for tokens in (1, 2, 4, 9, 40):
            one = request(method, tokens=tokens, newlines=newlines)
            said = [
                refusal(lambda one=one, size=size: herovlm.token_count(small.model.config, size[::-1], one)),
                refusal(lambda one=one, size=size: herovlm.see(small.model, given_size(small, *size), one).drop(one)),
            ]
            assert said[0] == said[1], (size, tokens)


def refusal(ask: Any) -> str:
    try:
        ask()
    except herovlm.HeroError as error:
        return str(error)
    return ""


def test_what_has_no_number_beforehand_is_an_error(models: Any) -> None:
    config = models("llava_next").model.config
    for asked, error in (
        (request("hero", keep="auto(loss=0.1)"), BudgetError),
        (request('hero(variant="official")', 0.3), UnsupportedError),
        (request("hero + fastv", 0.3), UnsupportedError),
        (request("downsample", tokens=1), BudgetError),
    ):
        with pytest.raises(error):
            herovlm.token_count(config, (31, 60), asked)
    with pytest.raises(ModelError, match="family"):
        herovlm.token_count(AutoConfig.for_model("gpt2"), (31, 60), request("hero", 0.3))
    assert herovlm.token_count(config, (31, 60), request("random", tokens=(5, 9)), 1) == 9


def test_select_is_what_drop_chooses(models: Any) -> None:
    small = models("llava_next")
    inputs = prompts(small)
    for one in ASKED[:-1]:
        short = herovlm.see(small.model, inputs, one).drop(one)
        for image, (seen, kept) in enumerate(zip(short.seen, short.kept, strict=True)):
            assert torch.equal(herovlm.select(seen, one, image).mask, kept.mask)


WITHOUT = """
import sys
sys.modules["transformers"] = None
import torch, herovlm
from herovlm import Request
order = torch.cat([torch.arange(4), torch.tensor([4, 5, -1, 6, 7, -2])])
grid = herovlm.Grid((1, 1), 2, order, torch.tensor([[-1] * 4, [0, 0, 1, 1]]), torch.ones(2, dtype=torch.bool))
seen = herovlm.Seen(grid, torch.ones(2, 4, dtype=torch.bool), features=torch.rand(2, 4, 3), depth=4, heads=1,
                    attention={b: torch.rand(2, 1, 4) for b in range(4)}, cls=torch.rand(2, 3))
print(herovlm.select(seen, Request.of("hero(alpha=1)", tokens=3)).positions)
"""


def test_select_needs_no_transformers() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("3", 0), done.stderr


@pytest.mark.parametrize("spec", ["random + fastv(layer=1)", "fastv(layer=1)", "random + contrast(amateur='uniform')"])
def test_what_goes_on_behind_a_method_is_never_left_out_silently(models: Any, spec: str) -> None:
    small, one = models("llava_next"), request(spec, 0.3)
    view = herovlm.see(small.model, prompts(small), one, needs=Needs(cls=True))
    (seen, *_) = view.seen(Needs())
    for ask in (lambda: view.drop(one), lambda: herovlm.select(seen, one)):
        with pytest.raises(UnsupportedError, match=r"only shortens inputs.*dropping\(model, method="):
            ask()
    assert view.choose(one).rebuild().kept, "whoever goes on with it may"


def test_select_looks_at_no_other_picture(models: Any) -> None:
    small = models("llava_next")
    view = herovlm.see(small.model, prompts(small), request("random", 0.3))
    (seen, *_) = view.seen(Needs())
    with pytest.raises(UnsupportedError, match="smaller picture"):
        herovlm.select(seen, request("downsample", 0.3))
    with pytest.raises(UnsupportedError, match=r"Seen\.through is missing"):
        herovlm.select(seen, request("random", 0.3, narrow=0.5))
    assert herovlm.select(seen, request("random", 1.0, narrow=0.5)).positions == seen.positions


@pytest.mark.parametrize("size", [(0, 5), (-1, 3), (5,), (5, 5, 5), ("a", "b"), None, (True, True), (1.5, 2), 7, "77"])
def test_a_size_is_that_of_a_picture(models: Any, size: Any) -> None:
    with pytest.raises(InputsError, match=r"size=.* is not that of a picture; give \(height, width\)"):
        herovlm.token_count(models("llava_next").model.config, size, request("random", 0.3))


def test_sizes_of_any_whole_numbers_are_sizes(models: Any) -> None:
    config, one = models("llava_next").model.config, request("random", 0.3)
    counts = {
        herovlm.token_count(config, size, one)
        for size in ((31, 60), [31, 60], torch.tensor([31, 60]), torch.Size([31, 60]))
    }
    assert len(counts) == 1


@pytest.mark.parametrize("image", [2, -1, "0", None, True])
def test_a_budget_has_a_value_for_the_image(models: Any, image: Any) -> None:
    small, one = models("llava_next"), request("random", [0.2, 0.3])
    (seen, *_) = herovlm.see(small.model, prompts(small), request("random", 0.3)).seen(Needs())
    for ask in (
        lambda: herovlm.token_count(small.model.config, (31, 60), one, image),
        lambda: herovlm.select(seen, one, image),
    ):
        with pytest.raises(BudgetError, match=r"is not the number of an image of the call, from 0 on; .* has 2 values"):
            ask()


def test_select_needs_a_number(models: Any) -> None:
    small = models("llava_next")
    (seen, *_) = herovlm.drop(small.model, prompts(small), method="random", keep=0.3).seen
    with pytest.raises(HeroError, match="auto"):
        herovlm.select(seen, request("random", keep="auto(loss=0.1)"))


def test_what_lies_side_by_side_is_not_copied() -> None:
    """Features of many images are what a batch has most of; a copy of them costs more than choosing."""
    together = torch.arange(24.0).view(6, 2, 2)
    for parts, shared in (
        (together.split(2), True),
        (together.split(2)[1:], True),
        (together.split(2)[::-1], False),
        (together.split(2)[::2], False),
        ([own.clone() for own in together.split(2)], False),
        ([together[..., 1:][:2], together[..., 1:][2:4]], False),
        ([together[:2], together[:2]], False),
    ):
        stacked = choose._side_by_side(parts)
        assert torch.equal(stacked, torch.stack(list(parts)))
        assert (stacked.data_ptr() == parts[0].data_ptr()) is shared


def test_the_features_of_a_batch_are_not_copied_to_choose(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small, found = models("llava_next"), []
    pictures = [[tiny.picture(60, 31, n)] for n in range(3)]
    inputs = small.inputs(pictures, ["USER: <image>\nWhat? ASSISTANT:"] * 3)
    real = choose._side_by_side
    monkeypatch.setattr(choose, "_side_by_side", lambda parts: found.append((real(parts), parts)) or found[-1][0])
    one = request("random", 0.3)
    view = herovlm.see(small.model, inputs, one)
    view.drop(one)
    ((stacked, parts),) = found
    assert stacked.shape == (3, *parts[0].shape)
    assert stacked.data_ptr() == view.seen(Needs())[0].features.data_ptr()
