from __future__ import annotations

from importlib import metadata
from types import SimpleNamespace

import pytest

from herovlm import registry
from herovlm.errors import MethodError, ModelError
from herovlm.methods.hero import Hero


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """Entry points of other packages: group -> name -> value."""
    found: dict[str, dict[str, str]] = {}

    def entry_points(group: str) -> list[metadata.EntryPoint]:
        return [metadata.EntryPoint(name, value, group) for name, value in found.get(group, {}).items()]

    monkeypatch.setattr(registry.metadata, "entry_points", entry_points)
    return found


def model(kind: object) -> SimpleNamespace:
    return SimpleNamespace(config=SimpleNamespace(model_type=kind))


def test_every_method_of_the_table_loads_and_bears_its_name() -> None:
    for name in registry.METHODS:
        assert registry.method(name).name == name
    assert registry.method("hero") is Hero


def test_every_method_inside_the_llm_loads_and_bears_its_name() -> None:
    for name in registry.INSIDE:
        assert registry.inside(name).name == name
    assert not {*registry.INSIDE} & {*registry.METHODS}, "a spec has to say which is meant"
    with pytest.raises(MethodError, match="did you mean 'fastv'"):
        registry.inside("fastw")


def test_other_packages_add_methods_inside_the_llm(others: dict[str, dict[str, str]]) -> None:
    others["herovlm.inside"] = {"mine": "herovlm.methods.inside.fastv:FastV", "theirs": "herovlm.methods.hero:Hero"}
    assert registry.insides() == [*registry.INSIDE, "mine", "theirs"]
    with pytest.raises(MethodError, match="calls itself 'fastv'"):
        registry.inside("mine")
    with pytest.raises(MethodError, match="not a subclass"):
        registry.inside("theirs")


def test_other_packages_add_methods(others: dict[str, dict[str, str]]) -> None:
    others["herovlm.methods"] = {"nothing": "test_method_base:Nothing", "hero": "evil:Hero"}
    assert registry.methods() == [*registry.METHODS, "nothing"]
    assert registry.method("hero") is Hero, "a name of ours cannot be taken over"


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("no_such_module:X", "cannot be loaded"),
        ("herovlm.methods.hero:Zero", "cannot be loaded"),
        ("herovlm.types:Kept", "not a subclass"),
        ("herovlm.methods.hero:VARIANTS", "not a subclass"),
        ("herovlm.methods.hero:Hero", "calls itself 'hero'"),
    ],
)
def test_a_broken_entry_point_is_explained(others: dict[str, dict[str, str]], value: str, match: str) -> None:
    others["herovlm.methods"] = {"mine": value}
    with pytest.raises(MethodError, match=match):
        registry.method("mine")


@pytest.mark.parametrize(("typed", "meant"), [("herro", "hero"), ("HERO", "hero"), ("rand", "random"), ("pol", "pool")])
def test_a_slip_of_the_pen_is_understood(typed: str, meant: str) -> None:
    with pytest.raises(MethodError, match=f"did you mean '{meant}'"):
        registry.method(typed)


def test_an_unknown_method_is_told_what_there_is() -> None:
    with pytest.raises(MethodError, match="There are: hero, hero_plus, full, "):
        registry.method("zzz")


def test_families_are_found_by_config() -> None:
    for kind in registry.FAMILIES:
        assert kind in registry.family(model(kind)).model_types
    assert registry.families() == list(registry.FAMILIES)


def test_an_unknown_family_is_told_what_there_is() -> None:
    with pytest.raises(ModelError, match=r"'llava_nxt'.*did you mean 'llava_next'"):
        registry.family(model("llava_nxt"))


@pytest.mark.parametrize("thing", [None, "llava", model(None), SimpleNamespace()])
def test_what_is_not_a_model_is_refused(thing: object) -> None:
    with pytest.raises(ModelError, match="not a transformers model"):
        registry.family(thing)
