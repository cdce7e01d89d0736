from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herovlm import spec
from herovlm.errors import HeroError, MethodError
from herovlm.methods.hero import Hero
from herovlm.methods.inside.base import Chain
from herovlm.methods.inside.fastv import FastV
from herovlm.methods.inside.pyramiddrop import PyramidDrop
from herovlm.methods.random import Random


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hero", ["hero"]),
        ("", [""]),
        ("a, b,,c ", ["a", "b", "", "c"]),
        ("hero(alpha=0.3, low_layers=(2, 3)),random", ["hero(alpha=0.3, low_layers=(2, 3))", "random"]),
        ("a[1,2],{3,4}", ["a[1,2]", "{3,4}"]),
        ("a=',',b=\"it's, (\",c", ["a=','", 'b="it\'s, ("', "c"]),
    ],
)
def test_a_list_is_split_at_the_commas_outside_brackets_and_quotes(text: str, parts: list[str]) -> None:
    assert spec.split(text) == parts


layers = st.lists(st.integers(-24, 23) | st.floats(0, 1), min_size=1, max_size=4).map(tuple)
heroes = st.builds(
    Hero,
    variant=st.sampled_from(["paper", "official"]),
    low_layers=layers,
    high_layers=layers,
    alpha=st.floats(0, 1),
    t_cls=st.floats(1e-6, 1e6),
    t_clip=st.floats(1e-6, 1e6) | st.integers(1, 9),
    density=st.floats(0, 1),
    thumbnail=st.none() | st.floats(0, 1),
    double_softmax=st.sampled_from([None, True, False]),
    allocation=st.sampled_from([None, "exact", "floored"]),
    relevance=st.sampled_from([None, "tower", "clip"]),
    newlines=st.sampled_from(["touched", "all", "none"]),
)


@given(heroes | st.builds(Random, seed=st.integers(-5, 2**40)))
def test_text_and_back_is_the_same_method(method: Hero | Random) -> None:
    again = spec.parse(str(method))
    assert again == method
    assert repr(again) == repr(method)  # 1 and 1.0 are equal, but another layer


@pytest.mark.parametrize(
    "text",
    [
        "hero(alpha=0.3, low_layers=(2,3))",
        " hero( low_layers = [2, 3], alpha=.3 ) ",
        "hero(low_layers=(2,3),alpha=3e-1)",
    ],
)
def test_spelling_is_free(text: str) -> None:
    assert spec.parse(text) == Hero(alpha=0.3, low_layers=(2, 3))


insides = st.builds(FastV, layer=layers.map(lambda some: some[0]), tokens=st.none() | st.integers(1, 99)) | st.builds(
    PyramidDrop, layers=layers, keep=st.none() | st.floats(1e-6, 1), positions=st.sampled_from(["true", "code"])
)


@given(st.none() | heroes, insides)
def test_a_chain_is_spelled_with_a_plus(before: Hero | None, inside: FastV | PyramidDrop) -> None:
    chain = Chain(before, inside)
    assert spec.parse(str(chain)) == chain
    assert spec.parse(chain) is chain
    assert spec.parse(inside) == Chain(None, inside)
    assert str(chain) == (f"{before} + {inside}" if before else str(inside))


def test_spaces_around_the_plus_are_free() -> None:
    want = Chain(Hero(alpha=0.3), FastV(layer=2, keep=0.5))
    assert spec.parse("hero(alpha=.3)+fastv(keep=.5, layer=2)") == want
    assert str(want) == "hero(alpha=0.3) + fastv(keep=0.5)"


def test_defaults() -> None:
    assert spec.parse("hero") == spec.parse("hero()") == Hero()
    assert spec.parse(Hero(alpha=1)) == Hero(alpha=1)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("herro(alpha=1)", "did you mean 'hero'"),
        ("vtc-cls", "no method is called 'vtc-cls'"),
        ("hero(alfa=1)", "did you mean 'alpha'"),
        ("hero(alpha='x')", "expected a number"),
        ("hero(alpha=2)", "alpha <= 1"),
        ("hero(0.3)", "given by name"),
        ("hero + fastw", "did you mean 'fastv'"),
        ("hero + fastv(layr=2)", "did you mean 'layer'"),
        ("hero + random", "one method before the LLM and one inside it"),
        ("fastv + hero", "one method before the LLM and one inside it"),
        ("fastv + fastv", "one method before the LLM and one inside it"),
        ("hero + random + fastv", "one method before the LLM and one inside it"),
        ("hero + ", "cannot be read"),
        ("hero + (random + fastv)", "cannot be read"),
        ("hero - fastv", "cannot be read"),
        ("hero(**{'alpha': 1})", "given by name"),
        ("hero(alpha=1, alpha=1)", "twice"),
        ("hero(alpha=x)", "plain value"),
        ("hero(alpha=__import__('os').getcwd())", "plain value"),
        ("hero.methods(alpha=1)", "cannot be read"),
        ("hero(alpha=1", "cannot be read"),
        ("hero; random", "cannot be read"),
        ("", "cannot be read"),
        ("hero\0", "cannot be read"),
        ("(" * 5000, "cannot be read"),
        ("hero(alpha=" + "[" * 90 + "]" * 90 + ")", "expected a number"),
    ],
)
def test_mistakes_are_explained(text: str, match: str) -> None:
    with pytest.raises(MethodError, match=match) as error:
        spec.parse(text)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("thing", [None, 3, Hero, b"hero", {}])
def test_other_things_are_refused(thing: object) -> None:
    with pytest.raises(MethodError, match="neither a method object nor a spec"):
        spec.parse(thing)  # type: ignore[arg-type]


@given(st.text(max_size=40) | st.text("hero(alp=0.1,)+fastv[]{}'\"#\\ \n", max_size=40))
def test_any_text_is_a_method_or_one_of_our_errors(text: str) -> None:
    with contextlib.suppress(HeroError):
        spec.parse(text)


def test_types_of_fields_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take long to read, and every call of `drop` reads a spec."""
    spec.parse("hero(alpha=0.5)")
    read: list[object] = []
    for module in ("herovlm.methods.fields", "herovlm.spec"):
        monkeypatch.setattr(f"{module}.get_type_hints", read.append, raising=False)
    spec.parse("hero(alpha=0.25)")
    assert read == []
