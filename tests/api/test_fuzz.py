"""Whatever is given to a public function, the outcome is a right answer or an error of ours.

The suite draws a few hundred; `HEROVLM_DRAWS=500 pytest tests/api/test_fuzz.py` draws so many for each function.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from grids import make_seen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import herovlm
from herovlm import HeroError, registry
from herovlm.budget import Share, Tokens, read

DRAWS = int(os.environ.get("HEROVLM_DRAWS", "40"))
many = settings(max_examples=DRAWS, suppress_health_check=list(HealthCheck), derandomize=DRAWS <= 40)

DTYPES = (torch.float32, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64)
NUMBERS: Any = st.one_of(
    st.integers(-3, 300),
    st.floats(),
    st.floats(0, 1),
    st.sampled_from([np.float32(0.2), np.int8(7), np.bool_(True), np.float64("nan"), Fraction(1, 3), 1j, 10**30]),
    st.sampled_from(
        [np.array(0.5), np.array([0.5]), np.zeros((0,)), np.zeros((2, 2)), np.array("a"), np.array([None])]
    ),
)
TENSORS: Any = st.builds(
    lambda shape, dtype, device: torch.zeros(shape, dtype=dtype, device=device),
    st.lists(st.integers(0, 4), max_size=5),
    st.sampled_from(DTYPES),
    st.sampled_from(["cpu", "meta"]),
)
WORDS: Any = st.sampled_from(
    ["", "auto", "auto(0.1)", "auto(", "hero", "0.2", "full", "hero(", "\0", "é" * 300, "none"]
)
PLAIN: Any = st.one_of(NUMBERS, TENSORS, WORDS, st.none(), st.booleans(), st.binary(max_size=3), st.just(object()))
ANY: Any = st.one_of(
    PLAIN,
    st.lists(PLAIN, max_size=3),
    st.lists(PLAIN, max_size=3).map(tuple),
    st.dictionaries(WORDS, PLAIN, max_size=2),
    st.sets(st.integers(), max_size=2),
)


def fine(call: Callable[[], Any]) -> Any:
    """What a call returns, or None where it raises an error of ours; any other error fails the test."""
    with suppress(HeroError):
        return call()
    return None


@many
@given(ANY, ANY)
def test_budgets(keep: Any, tokens: Any) -> None:
    for given_ in ((keep, None), (None, tokens), (keep, tokens)):
        found = fine(lambda given_=given_: read(*given_))
        if isinstance(found, Share | Tokens):
            assert 1 <= found.of(100) <= 100


@many
@given(
    st.text(max_size=20) | st.sampled_from(["auto(loss=1", "hero+fastv", "hero(alpha=1e999)", "hero(**{})", "-" * 999])
)
def test_texts(text: str) -> None:
    fine(lambda: herovlm.parse(text))
    fine(lambda: herovlm.budget.parse(text))
    fine(lambda: herovlm.budget.shares_of(text))
    fine(lambda: herovlm.budget.tokens_of(text))


@many
@given(ANY)
def test_specs(spec: Any) -> None:
    fine(lambda: herovlm.parse(spec))


OPTIONS = ("method", "keep", "tokens", "question", "processor", "positions", "newlines", "narrow")


@pytest.fixture(scope="module")
def small(models: Any) -> tiny.Tiny:
    return models("llava_next")


@pytest.fixture(scope="module")
def inputs(small: tiny.Tiny) -> Callable[[], Any]:
    """A batch, behind a call: Hypothesis prints whatever a test is given."""
    made = small.inputs([[tiny.picture(60, 31)], [tiny.picture(20, 60)]], ["USER: <image>\nHi? ASSISTANT:"] * 2)
    return lambda: made


@many
@given(options=st.dictionaries(st.sampled_from(OPTIONS), ANY, min_size=1, max_size=2))
def test_options(small: tiny.Tiny, inputs: Any, options: Any) -> None:
    how = {"method": "random", **options}
    short = fine(lambda: herovlm.drop(small.model, inputs(), **how))
    if short is not None:
        assert len(short.kept) == 2
        assert all(kept.positions >= 1 for kept in short.kept)

    def within() -> None:
        with herovlm.dropping(small.model, **how):
            small.model(**inputs())

    fine(within)


NAMES = ("input_ids", "attention_mask", "pixel_values", "image_sizes")
MORE = (
    "vision_feature_layer",
    "vision_feature_select_strategy",
    "position_ids",
    "labels",
    "token_type_ids",
    "inputs_embeds",
    "past_key_values",
    "cache",
    "mm_encoder_outputs",
)


@many
@given(data=st.data(), family=st.sampled_from(sorted(tiny.FAMILIES)))
def test_inputs(models: Any, data: Any, family: str) -> None:
    """Some of the inputs are missing, or something else, or of another shape, dtype or device."""
    made = models(family)
    pictures = [[tiny.picture(60, 31)], [tiny.picture(20, 60)]]
    changed = dict(made.inputs(pictures, ["USER: <image>\nHi? ASSISTANT:"] * 2))
    for name in data.draw(st.lists(st.sampled_from([*NAMES, *MORE]), min_size=1, max_size=2, unique=True)):
        now = changed.get(name)
        how = data.draw(st.sampled_from(["missing", "any", "dtype", "meta", "shape", "list", "numpy", "values"]))
        if how == "missing" or not isinstance(now, torch.Tensor):
            changed.pop(name, None)
        if how == "any" or (how != "missing" and not isinstance(now, torch.Tensor)):
            changed[name] = data.draw(ANY)
        elif isinstance(now, torch.Tensor) and how != "missing":
            changed[name] = other(now, how, data)
    for method in ("random", "hero(alpha=1)"):
        short = fine(lambda method=method: herovlm.drop(made.model, changed, method=method, keep=0.3))
        if short is not None and short.kept:
            assert [k.positions for k in short.kept] == [max(1, round(0.3 * s.positions)) for s in short.seen]


def other(now: torch.Tensor, how: str, data: Any) -> Any:
    """The same input, and not quite."""
    if how == "dtype":
        return now.to(data.draw(st.sampled_from(DTYPES)))
    if how == "shape":
        cut = data.draw(st.sampled_from([np.s_[:1], np.s_[..., :1], np.s_[:0], np.s_[None], np.s_[0], np.s_[..., :-1]]))
        return now[cut]
    if how == "values":
        return torch.full_like(now, data.draw(st.sampled_from([0, 1, -1, 10**6])))
    return {"meta": lambda: now.to("meta"), "list": now.tolist, "numpy": now.numpy}[how]()


@many
@given(model=ANY, given_=ANY)
def test_models_and_mappings(small: tiny.Tiny, inputs: Any, model: Any, given_: Any) -> None:
    fine(lambda: herovlm.drop(model, inputs()))
    fine(lambda: herovlm.drop(small.model, given_))

    def within(one: Any) -> None:
        with herovlm.dropping(one):
            pass

    fine(lambda: within(model))


@many
@given(short=ANY, image=ANY, fit=ANY)
def test_show(small: tiny.Tiny, inputs: Any, short: Any, image: Any, fit: Any) -> None:
    right, picture = herovlm.drop(small.model, inputs(), method="random"), [tiny.picture(60, 31), tiny.picture(20, 60)]
    fine(lambda: herovlm.show(short, picture))
    name = short
    try:
        hash(name)
    except TypeError:
        name = ("a", repr(short))
    fine(lambda: herovlm.show({"a": right, **(short if isinstance(short, dict) else {})}, picture))
    fine(lambda: herovlm.show({name: right}, picture))
    fine(lambda: herovlm.show(right, image))
    fine(lambda: herovlm.show(right, [image, *picture[1:]]))
    fine(lambda: herovlm.show(right, picture, fit=fit))


SIGNALS = ("features", "attention", "cls", "relevance", "affinity", "keys", "queries", "received", "hidden", "through")


@many
@given(data=st.data(), name=st.sampled_from(registry.methods()))
def test_methods(data: Any, name: str) -> None:
    """A signal is missing, constant, zero or not finite; pictures are thin, tiles empty, budgets anything."""
    rows, cols, side = (data.draw(st.integers(low, high)) for low, high in ((0, 2), (0, 2), (1, 4)))
    shape = (rows, cols) if rows * cols else (0, 0)
    seen = make_seen(*shape, side, newlines=data.draw(st.booleans()))
    if data.draw(st.booleans()):
        seen = replace(seen, valid=seen.valid & (torch.rand(seen.valid.shape, generator=torch.manual_seed(0)) < 0.5))
    known = {f.name for f in fields(seen)} & {*SIGNALS, "words", "dots", "newline"}
    for signal in data.draw(st.lists(st.sampled_from(sorted(known)), max_size=2)):
        now = getattr(seen, signal)
        value = data.draw(st.sampled_from([None, 0.0, 1.0, float("nan"), float("inf")]))
        filled: Any = None
        if value is not None and isinstance(now, torch.Tensor):
            filled = torch.full_like(now, value)
        elif isinstance(now, dict):
            filled = {} if value is None else {block: torch.full_like(x, value) for block, x in now.items()}
        seen = replace(seen, **{signal: filled})
    budget = data.draw(st.integers(-1, seen.positions + 2))
    kept = fine(lambda: herovlm.parse(name).keep(seen, budget))
    if kept is not None:
        assert not (kept.mask & ~seen.valid).any()
        if herovlm.parse(name).exact and budget < seen.positions:
            assert kept.positions == budget
