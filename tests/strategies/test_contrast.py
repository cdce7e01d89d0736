"""Contrast of many and few tokens of one picture, and the way in that all strategies share."""

from __future__ import annotations

import pytest
import torch

import herovlm
from herovlm import demo
from herovlm.api import answered
from herovlm.demo import scenes
from herovlm.errors import MethodError, UnsupportedError
from herovlm.ops.contrast import BARRED, contrasted
from herovlm.prompt.template import prompt
from herovlm.request import Request
from herovlm.view import see

HOW = {"do_sample": False, "max_new_tokens": 8, "pad_token_id": 0}


@pytest.fixture(scope="module")
def ready():
    return demo.load()


@pytest.fixture(scope="module")
def inputs(ready):
    model, processor = ready
    boards = [scenes.make(seed) for seed in (3, 4, 5)]
    asked = [prompt(processor, board.questions[k].text) for k, board in enumerate(boards)]
    made = processor(
        images=[[board.image] for board in boards],
        text=asked,
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    return made.to(model.device, model.dtype)


def one(inputs, row: int):
    return {name: value[row : row + 1] for name, value in inputs.items()}


def test_the_contrast_is_its_formula_among_the_likeliest() -> None:
    logits = torch.randn(3, 2, 30, generator=torch.Generator().manual_seed(0))
    found = contrasted(logits, (0.3, 0.7), 5)
    wanted = logits[2] + 0.3 * (logits[1] - logits[0]) + 0.7 * (logits[2] - logits[1])
    for row in range(2):
        said = logits[2, row].topk(5).indices
        assert torch.allclose(found[row, said], wanted[row, said], atol=1e-6)
        assert (found[row] == BARRED).sum() == 25


def test_without_weight_it_is_greedy(ready, inputs) -> None:
    model, _ = ready
    plain = model.generate(**inputs, **HOW)
    with herovlm.decoding(model, "contrast(weight=0)") as record:
        assert torch.equal(model.generate(**inputs, **HOW), plain)
    assert [fact["streams"] for fact in record.facts] == [2, 2, 2]
    assert "generate" not in vars(model)


def test_each_step_says_what_the_contrast_of_both_prompts_says(ready, inputs) -> None:
    model, _ = ready
    given = one(inputs, 1)
    few, ids = herovlm.drop(model, given, method="hero", keep=0.1), given["input_ids"]
    with herovlm.decoding(model, "contrast(amateur=hero, keep=0.1, weight=3.0)"):
        out = model.generate(**given, **HOW)[0, ids.shape[1] :]
    said = torch.empty((1, 0), dtype=torch.long)
    for token in out[out != 0][:4]:
        both = []
        for way in (few, herovlm.drop(model, given, method="full", keep=1.0)):
            text, mask = way["input_ids"], way["attention_mask"]
            longer = {**way, "input_ids": torch.cat((text, said), 1)}
            longer["attention_mask"] = torch.cat((mask, torch.ones_like(said)), 1)
            both.append(model(**longer).logits[:, -1])
        best = contrasted(torch.stack(both), (3.0,), 20)[0]
        assert best[token] >= best.max() - 0.25, "but for rounding in bfloat16"
        said = torch.cat((said, token.view(1, 1)), 1)


def test_a_prompt_does_not_depend_on_its_neighbours(ready, inputs) -> None:
    model, _ = ready
    with herovlm.decoding(model, "contrast(weight=1.0)", keep=0.4, method="hero"):
        batch = model.generate(**inputs, **HOW)[:, inputs["input_ids"].shape[1] :]
        for row in range(3):
            alone = model.generate(**one(inputs, row), **HOW)[0, inputs["input_ids"].shape[1] :]
            assert alone.any()
            assert batch[row][batch[row] != 0].tolist() == alone[alone != 0].tolist()


def test_evaluation_goes_the_same_way(ready, inputs) -> None:
    model, processor = ready
    request = Request.of("hero + contrast(weight=1.0)", keep=0.4, processor=processor)
    with torch.no_grad():
        choice = see(model, inputs, request).choose(request)
        found = answered([(choice, row) for row in range(3)], **HOW)
    with herovlm.dropping(model, method="hero + contrast(weight=1.0)", keep=0.4, processor=processor) as record:
        out = model.generate(**inputs, **HOW)
    assert torch.equal(out[:, inputs["input_ids"].shape[1] :], found.new)
    assert record.facts == found.facts
    kept = [sum(k.positions for k in choice.of(row)) for row in range(3)]
    few = [fact["amateur_positions"] for fact in found.facts]
    assert found.positions == tuple(float(a + b) for a, b in zip(kept, few, strict=True))


def test_a_streamer_sees_one_row_a_prompt(ready, inputs) -> None:
    model, _ = ready

    class Streamer:
        seen: list[torch.Tensor]

        def __init__(self) -> None:
            self.seen = []

        def put(self, value) -> None:
            self.seen.append(value)

        def end(self) -> None:
            pass

    watching = Streamer()
    given = one(inputs, 0)
    with herovlm.decoding(model, "contrast"):
        out = model.generate(**given, **HOW, streamer=watching)
    assert torch.equal(watching.seen[0][0], given["input_ids"][0])
    assert [int(value) for value in watching.seen[1:]] == out[0, given["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"num_beams": 2}, "greedily"),
        ({"do_sample": True}, "greedily"),
        ({"return_dict_in_generate": True}, "token ids alone"),
        ({"prompt_lookup_num_tokens": 2}, "token ids alone"),
    ],
)
def test_options_that_do_not_go_with_it_are_refused(ready, inputs, option, match) -> None:
    model, _ = ready
    with herovlm.decoding(model, "contrast"), pytest.raises(UnsupportedError, match=match):
        model.generate(**inputs, **{**HOW, **option})
    assert "generate" not in vars(model)


def test_a_direct_call_is_refused(ready, inputs) -> None:
    model, _ = ready
    with herovlm.decoding(model, "contrast"), pytest.raises(UnsupportedError, match="writes answers"):
        model(**inputs)


@pytest.mark.parametrize(
    "spec",
    [
        "contrast(amateur='fastv')",
        "contrast(amateur='downsample')",
        "contrast(keep=0)",
        "contrast(weight=-1)",
        "contrast(top=0)",
        "hero",
        "hero + fastv",
    ],
)
def test_bad_specs_are_refused(ready, spec: str) -> None:
    model, _ = ready
    with pytest.raises(MethodError), herovlm.decoding(model, spec):
        pass


def test_what_makes_no_sense_is_refused(ready, inputs) -> None:
    model, _ = ready
    with pytest.raises(UnsupportedError, match="goes on"):
        herovlm.drop(model, inputs, method="hero + contrast")
    with pytest.raises(UnsupportedError, match="one look"), herovlm.dropping(model, method="downsample + contrast"):
        pass
    with pytest.raises(UnsupportedError, match="several prompts"):
        herovlm.token_count(model.config, (300, 400), Request.of("full + contrast", keep=1.0))


def test_a_strategy_alone_has_its_own_method() -> None:
    alone = herovlm.parse("contrast(keep=0.1)")
    assert str(alone) == "full + contrast(keep=0.1)"
    assert herovlm.parse(str(alone)) == alone
