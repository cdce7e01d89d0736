from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen

from herovlm.errors import MethodError
from herovlm.methods.hero import Hero
from herovlm.methods.hero_plus import HeroPlus
from herovlm.types import Needs, Seen

HERO, PLUS = (kind(low_layers=(1,), high_layers=(4,)) for kind in (Hero, HeroPlus))


def seen_of(shape: tuple[int, int, int] = (2, 2, 6), pad: tuple[int, int] = (0, 0)) -> Seen:
    return make_seen(*shape, pad, needs=PLUS.needs(6))


def test_it_asks_for_what_hero_asks_for_and_for_states() -> None:
    assert PLUS.needs(6) == dataclasses.replace(HERO.needs(6), hidden=True)
    assert HeroPlus(novelty=0).needs(24) == Hero().needs(24)
    assert HeroPlus(alpha=1).needs(24).relevance is None


@pytest.mark.parametrize("share", [0.05, 0.1, 0.4])
def test_the_share_of_the_overview_grows_with_the_budget(share: float) -> None:
    seen = seen_of()  # thumbnail 36, local 144
    budget = round(share * seen.positions)
    weight = PLUS.overview * budget / seen.positions * 36
    fair = budget * weight / (weight + 144)
    assert abs(int(PLUS.keep(seen, budget).granted[0]) - min(36, fair)) < 1
    even = dataclasses.replace(PLUS, overview=seen.positions / budget).keep(seen, budget)
    assert torch.equal(even.mask, dataclasses.replace(PLUS, overview=0.0).keep(seen, budget).mask)


def test_a_patch_that_repeats_a_better_one_waits() -> None:
    seen = seen_of(shape=(0, 0, 6))
    hidden, (best, second, third) = torch.eye(36)[None].clone(), seen.attention[4][0].mean(0).topk(3).indices
    hidden[0, second] = 2 * hidden[0, best]
    seen = dataclasses.replace(seen, hidden=hidden)
    assert PLUS.keep(seen, 2).mask.nonzero()[:, 1].tolist() == sorted([int(best), int(third)])
    assert HERO.keep(seen, 2).mask.nonzero()[:, 1].tolist() == sorted([int(best), int(second)])
    assert PLUS.keep(seen, 35).mask.sum() == 35


def test_novelty_without_states_is_explained() -> None:
    with pytest.raises(MethodError, match="novelty"):
        PLUS.keep(dataclasses.replace(seen_of(), hidden=None), 40)


@pytest.mark.parametrize("budget", [20, 50, 90])
def test_without_its_two_rules_it_is_hero(budget: int) -> None:
    seen, plain = seen_of(pad=(1, 0)), dataclasses.replace(PLUS, novelty=0.0, overview=0.0)
    assert torch.equal(plain.keep(seen, budget).mask, HERO.keep(seen, budget).mask)
    assert not torch.equal(PLUS.keep(seen, budget).mask, HERO.keep(seen, budget).mask)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.5, 20), (1.0, 36)])
def test_a_set_thumbnail_share_does_not_grow(share: float, expected: int) -> None:
    assert dataclasses.replace(PLUS, thumbnail=share).keep(seen_of(), 40).granted[0] == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [("novelty", -1.0), ("overview", -1.0), ("alpha", 1.1), ("t_clip", 0.0), ("thumbnail", 2.0), ("relevance", None)],
)
def test_fields_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(MethodError, match=field):
        HeroPlus(**{field: value})


def test_the_question_is_needed_as_in_hero() -> None:
    with pytest.raises(MethodError, match="give one, or use alpha=1"):
        PLUS.keep(dataclasses.replace(seen_of(), relevance=None), 40)
    assert PLUS.needs(6).relevance == "tower"
    assert dataclasses.replace(PLUS, relevance="clip").needs(6) == Needs((1, 4), True, "clip", hidden=True)
