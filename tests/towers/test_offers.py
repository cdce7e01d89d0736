"""Needs meet offers in one place, before the tower runs, and who needs too much is told what works."""

from __future__ import annotations

import re
from typing import Any

import pytest
import tiny

import herovlm
from herovlm import registry
from herovlm.families.llava_next import LlavaNext
from herovlm.methods.base import Method
from herovlm.towers.clip import Clip
from herovlm.types import Needs


class Blind(Clip):
    """A tower without a CLS token, and without a text tower."""

    offers = frozenset({"received", "hidden"})


def inputs_of(small: tiny.Tiny) -> Any:
    return small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nHi? ASSISTANT:"])


@pytest.mark.parametrize("name", registry.METHODS)
def test_a_method_works_where_its_needs_are_offered_and_nowhere_else(
    models: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, runs = models("llava_next"), []
    method: type[Method] = registry.method(name)
    missing = method().needs(4).signals - Blind.offers
    monkeypatch.setattr(LlavaNext, "towers", (Blind,))
    how: Any = {"method": name, "keep": 0.5, "processor": small.processor}
    if not missing:
        assert herovlm.drop(small.model, inputs_of(small), **how).kept
        return
    hook = small.model.model.vision_tower.register_forward_pre_hook(lambda *_: runs.append(1))
    with pytest.raises(herovlm.UnsupportedError, match=r"clip_vision_model.*offers hidden, received") as caught:
        herovlm.drop(small.model, inputs_of(small), **how)
    hook.remove()
    assert runs == [], "before the tower runs"
    told = str(caught.value)
    assert all(one in told for one in missing)
    working = re.split(r", |: ", told.partition("methods that work there")[2])
    assert {"random", "uniform", "divprune", "full"} <= {*working}
    assert name not in working


def test_every_need_of_a_tower_has_a_name() -> None:
    everything = Needs((0,), True, "tower", True, True, (0,), (0,), (0,), True, True, ("all",), ((1,),))
    assert everything.signals == Needs.ALL
    assert Needs(words=("all",)).signals == Needs().signals == frozenset()
