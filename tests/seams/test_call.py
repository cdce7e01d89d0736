"""Whatever stands in the place of generate(), its arguments are found by name and given back where it wants them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch

import herovlm
from herovlm.errors import InputsError, UnsupportedError

GREEDY = {"max_new_tokens": 4, "do_sample": False}
PLAN: dict[str, Any] = {"method": "random", "keep": 0.3}


@pytest.fixture
def small(models: Any) -> tiny.Tiny:
    return models("llava_next")


@pytest.fixture
def inputs(small: tiny.Tiny) -> Any:
    return small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nHi? ASSISTANT:"])


def catch_all(inner: Callable[..., Any]) -> Callable[..., Any]:
    def theirs(ids: Any = None, **options: Any) -> Any:
        return inner(ids, **options)

    return theirs


def positional_only(inner: Callable[..., Any]) -> Callable[..., Any]:
    def theirs(prompt: Any, generation_config: Any = None, /, **more: Any) -> Any:
        return inner(prompt, generation_config, **more)

    return theirs


def everything(inner: Callable[..., Any]) -> Callable[..., Any]:
    def theirs(*args: Any, **kw: Any) -> Any:
        return inner(*args, **kw)

    return theirs


def wrapped(inner: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(inner)
    def theirs(*args: Any, loud: bool = False, **kw: Any) -> Any:
        assert not loud
        return inner(*args, **kw)

    return theirs


def wrapped_otherwise(inner: Callable[..., Any]) -> Callable[..., Any]:
    """One whose own parameters are not those that `functools.wraps` tells of."""
    return functools.wraps(inner)(catch_all(inner))


def partial(inner: Callable[..., Any]) -> Callable[..., Any]:
    return functools.partial(inner, use_cache=True)


BY_NAME = (catch_all, everything, wrapped, wrapped_otherwise, partial)
BY_PLACE = (catch_all, positional_only, everything, wrapped, wrapped_otherwise, partial)


@pytest.mark.parametrize(
    ("wrap", "place"), [*((wrap, False) for wrap in BY_NAME), *((wrap, True) for wrap in BY_PLACE)]
)
def test_a_generate_of_somebody_else_is_shortened(small: tiny.Tiny, inputs: Any, wrap: Any, place: bool) -> None:
    with herovlm.dropping(small.model, **PLAN):
        want = small.model.generate(**inputs, **GREEDY)
    small.model.generate = wrap(small.model.generate)
    rest = {name: value for name, value in inputs.items() if name != "input_ids"}
    try:
        with herovlm.dropping(small.model, **PLAN) as record:
            if place:
                got = small.model.generate(inputs["input_ids"], **rest, **GREEDY)
            else:
                got = small.model.generate(**inputs, **GREEDY)
    finally:
        del small.model.generate
    assert torch.equal(got, want)
    assert record.last is not None
    assert record.last["input_ids"].shape[1] < inputs["input_ids"].shape[1]


def test_what_a_generate_does_not_take_is_an_error(small: tiny.Tiny, inputs: Any) -> None:
    inner = small.model.generate

    def narrow(input_ids: Any, attention_mask: Any, pixel_values: Any = None, image_sizes: Any = None) -> Any:
        return inner(input_ids, attention_mask=attention_mask, pixel_values=pixel_values, image_sizes=image_sizes)

    def loose(input_ids: Any, *more: Any, **kw: Any) -> Any:
        return inner(input_ids, *more, **kw)

    def needy(input_ids: Any, pixel_values: Any, **kw: Any) -> Any:
        return inner(input_ids=input_ids, pixel_values=pixel_values, **kw)

    def naming(input_ids: Any, pixel_values: Any = None, image_sizes: Any = None, **kw: Any) -> Any:
        return inner(input_ids, pixel_values=pixel_values, image_sizes=image_sizes, **kw)

    for theirs, error, message, args in (
        (naming, UnsupportedError, "has parameters pixel_values", ()),
        (needy, UnsupportedError, "insists on pixel_values", ()),
        (narrow, UnsupportedError, "mm_encoder_outputs", ()),
        (narrow, InputsError, "unexpected keyword", ()),
        (loose, InputsError, "by name", (inputs["input_ids"], None)),
    ):
        small.model.generate = theirs
        given = {name: value for name, value in inputs.items() if not args or name != "input_ids"}
        extra = {"unknown": 1} if message == "unexpected keyword" else {}
        try:
            with herovlm.dropping(small.model, **PLAN), pytest.raises(error, match=message):
                small.model.generate(*args, **given, **extra)
        finally:
            del small.model.generate


def test_pictures_that_go_around_generate_are_refused(small: tiny.Tiny, inputs: Any) -> None:
    """Nothing would be shortened, and nobody would know."""
    inner = small.model.generate
    short = herovlm.drop(small.model, inputs, **PLAN)
    want = inner(**short, **GREEDY)
    with herovlm.dropping(small.model, **PLAN):
        with pytest.raises(UnsupportedError, match="not shortened"):
            inner(**inputs, **GREEDY)
        with pytest.raises(UnsupportedError, match="not shortened"):
            type(small.model).generate(small.model, **inputs, **GREEDY)
        assert torch.equal(small.model.generate(**short, **GREEDY), want)  # made shorter before
        assert torch.equal(small.model.generate(**short, **GREEDY, num_beams=2)[:, -1:].ge(0), torch.tensor([[True]]))
        assert torch.equal(small.model(**short).logits, small.model(**short).logits)

    def whole(question: str) -> Any:
        return inner(**inputs, **GREEDY)

    small.model.generate = whole
    try:
        with herovlm.dropping(small.model, **PLAN), pytest.raises(UnsupportedError, match="not shortened"):
            small.model.generate("Hi?")
    finally:
        del small.model.generate
