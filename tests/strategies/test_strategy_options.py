"""Options of generate() mean the same to every strategy that asks the model in its own way, however often it does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import herovlm
from herovlm import demo
from herovlm.demo import scenes
from herovlm.prompt.template import prompt

STRATEGIES = (
    "contrast(amateur='uniform')",
    "second(stages=(0, 1))",
    "second(stages=(0, 1), refresh='every')",
    "chain_of_spot(roi='attention')",
)
HOW = {"do_sample": False, "max_new_tokens": 6, "pad_token_id": 0}


@pytest.fixture(scope="module")
def ready() -> Any:
    return demo.load()


@pytest.fixture(scope="module")
def model(ready: Any) -> Any:
    return ready[0]


@pytest.fixture(scope="module")
def inputs(ready: Any) -> Any:
    _, processor = ready
    boards = [scenes.make(seed) for seed in (3, 4)]
    texts = [prompt(processor, board.questions[0].text) for board in boards]
    how = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
    return processor(images=[[board.image] for board in boards], text=texts, **how)


@pytest.fixture(params=STRATEGIES)
def said(request: pytest.FixtureRequest, ready: Any, inputs: Any) -> Any:
    """Answers by a strategy: new tokens, row by row."""
    model, processor = ready

    def said(**how: Any) -> list[list[int]]:
        with herovlm.decoding(model, request.param, processor=processor):
            out = model.generate(**inputs, **{**HOW, **how})
        new: list[list[int]] = out[:, inputs["input_ids"].shape[1] :].tolist()
        return new

    return said


def end_of(model: Any) -> int:
    ends = model.generation_config.eos_token_id
    return int(ends[0] if isinstance(ends, list) else ends)


def test_a_least_length_that_is_met_changes_nothing(said: Any, model: Any) -> None:
    plain = said()
    assert all(end_of(model) in row[2:] for row in plain), "answers of two words and more, that end"
    assert said(min_new_tokens=2) == plain


def test_tokens_that_are_allowed_are_those_of_the_prompt(said: Any, inputs: Any) -> None:
    allowed, length = {0: [10, 20], 1: [30, 40]}, inputs["input_ids"].shape[1]
    shown: list[bool] = []

    def which(row: int, ids: torch.Tensor) -> list[int]:
        shown.append(torch.equal(ids[:length], inputs["input_ids"][row]))
        return allowed[row]

    first, second = said(max_new_tokens=3, prefix_allowed_tokens_fn=which)
    assert {*first} <= {10, 20}
    assert {*second} <= {30, 40}
    assert all(shown)


def test_an_end_that_is_forced_comes_last(said: Any, model: Any) -> None:
    forced, free = (said(max_new_tokens=3, **how) for how in ({"forced_eos_token_id": end_of(model)}, {}))
    assert [row[:2] for row in forced] == [row[:2] for row in free]
    assert [row[2] for row in forced] == [end_of(model)] * 2


def test_tokens_that_are_suppressed_are_not_said(said: Any, model: Any) -> None:
    left, words = {30, 31, 32, 33}, range(model.config.text_config.vocab_size)
    found = said(max_new_tokens=3, suppress_tokens=[token for token in words if token not in left])
    assert all({*row} <= left for row in found)


def test_answers_end_at_the_token_that_the_call_names(said: Any) -> None:
    """Where one answer has ended the other goes on."""
    first, second = said()
    end = first[1]
    short, other = said(eos_token_id=end)
    assert short[:2] == first[:2]
    assert {*short[2:]} <= {0}
    assert end not in second
    assert other[: len(second)] == second, "it has no other end now"


def test_the_models_own_end_is_none_where_the_call_names_another(said: Any, model: Any) -> None:
    never = model.config.text_config.vocab_size - 1
    for row, plain in zip(said(eos_token_id=never), said(), strict=True):
        until = plain.index(end_of(model))
        assert row[: until + 1] == plain[: until + 1]
        assert row[until + 1 :], "it goes on"
        assert never not in row


def test_whoever_watches_sees_one_row_a_prompt(said: Any, inputs: Any) -> None:
    rows: set[tuple[int, int]] = set()

    def processor(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        rows.add((len(ids), len(scores)))
        assert torch.equal(ids[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])
        barred = scores.clone()
        barred[1, 41:] = -torch.inf
        return barred

    def stop(ids: torch.Tensor, _scores: Any) -> torch.Tensor:
        return torch.tensor([True, False]) if len(ids) == 2 else torch.ones(len(ids), dtype=torch.bool)

    first, second = said(logits_processor=[processor], stopping_criteria=[stop])
    assert rows == {(2, 2)}
    assert {*first[1:]} <= {0}, "the first stops behind its first token"
    assert len([token for token in second if token]) > 1
    assert max(second) <= 40
