from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen

from herovlm import parse
from herovlm.errors import BudgetError, MethodError
from herovlm.methods.hero import Hero
from herovlm.types import Needs, Seen

HERO = Hero(low_layers=(1,), high_layers=(4,))
OFFICIAL = Hero(variant="official", low_layers=(1,), high_layers=(4,))


def seen_of(hero: Hero = HERO, shape: tuple[int, int, int] = (2, 2, 6), pad: tuple[int, int] = (0, 0)) -> Seen:
    return make_seen(*shape, pad, needs=hero.needs(6))


def test_it_asks_for_the_rows_of_its_layers_and_for_both_terms() -> None:
    assert HERO.needs(6) == Needs((1, 4), cls=True, relevance="tower")
    assert OFFICIAL.needs(6).relevance == "clip"
    relative = Hero(low_layers=(0.25,), high_layers=(0.95,))
    assert relative.needs(24).attention == (6, 22)


def test_what_has_no_weight_is_not_asked_for() -> None:
    assert Hero(alpha=1).needs(24).relevance is None
    assert not Hero(alpha=0).needs(24).cls


def test_each_tile_keeps_the_patches_its_own_layers_look_at() -> None:
    seen = seen_of(pad=(2, 0))
    kept = HERO.keep(seen, seen.positions // 5)
    for tile, block in ((0, 4), *((t, 1) for t in range(1, 5))):
        score = seen.attention[block][tile].mean(0)
        left = seen.valid[tile] & ~kept.mask[tile]
        # single positions that are left over go to the best patch of all tiles, which is the best of its own
        assert score[kept.mask[tile]].min() > score[left].max()


@pytest.mark.parametrize(("alpha", "field"), [(0.0, "relevance"), (1.0, "cls")])
def test_the_tile_that_matters_gets_more(alpha: float, field: str) -> None:
    hero = dataclasses.replace(HERO, alpha=alpha)
    seen = seen_of(hero)
    if field == "relevance":
        seen = dataclasses.replace(seen, relevance=torch.tensor([0.0, 0.1, 0.1, 0.25, 0.1]))
    else:
        cls = torch.eye(8)[:5] + torch.eye(8)[:1]
        cls[3] = cls[0] + 0.1
        seen = dataclasses.replace(seen, cls=cls)
    kept = hero.keep(seen, seen.positions // 4)
    assert kept.granted[1:].argmax() == 2
    assert kept.why["weight"][1:].argmax() == 2
    assert kept.why["weight"].sum() == pytest.approx(1, abs=1e-5)


def test_a_cold_temperature_sharpens() -> None:
    seen = seen_of()
    cold, warm = (dataclasses.replace(HERO, t_clip=t).keep(seen, 40).why["relevance"] for t in (0.01, 1.0))
    assert cold.max() > warm.max()


def test_a_full_tile_hands_its_overflow_on() -> None:
    hero = Hero(low_layers=(1,), high_layers=(4,), alpha=0, density=0, t_clip=0.001)
    seen = dataclasses.replace(seen_of(hero), relevance=torch.tensor([0.0, 0.1, 0.1, 0.3, 0.1]))
    kept = hero.keep(seen, 150)
    assert kept.granted[3] == 36
    assert kept.positions == 150


def test_the_thumbnail_gets_its_fair_share_of_the_patches() -> None:
    seen = seen_of(pad=(3, 0))  # thumbnail 36, local 72
    kept = HERO.keep(seen, 60)
    assert abs(int(kept.granted[0]) - int(kept.mask.sum()) / 3) <= 2


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.5, 20), (1.0, 36)])
def test_the_thumbnail_share_can_be_set(share: float, expected: int) -> None:
    hero = dataclasses.replace(HERO, thumbnail=share, newlines="none")
    kept = hero.keep(seen_of(), 40)
    assert kept.granted[0] == expected
    assert kept.positions == 40


def test_one_tile_alone_needs_neither_question_nor_saliency() -> None:
    seen = dataclasses.replace(seen_of(shape=(0, 0, 6)), relevance=None, cls=None)
    kept = HERO.keep(seen, 10)
    assert kept.granted.tolist() == [10]
    best = seen.attention[4][0].mean(0).topk(10).indices
    assert kept.mask[0, best].all()


def test_a_missing_question_is_explained() -> None:
    with pytest.raises(MethodError, match="give one, or use alpha=1"):
        HERO.keep(dataclasses.replace(seen_of(), relevance=None), 40)
    assert dataclasses.replace(HERO, alpha=1.0).keep(dataclasses.replace(seen_of(), relevance=None), 40).positions == 40


def test_ours_spends_all_of_the_authors_worked_example() -> None:
    hero = dataclasses.replace(HERO, newlines="none")
    seen = make_seen(2, 2, 24, (6, 0), needs=hero.needs(6))
    authors = OFFICIAL.keep(seen, 921, share=0.4)
    assert authors.granted[0] == 230
    assert authors.granted[1:].sum() < 921
    assert authors.newlines.sum() == 48
    assert hero.keep(seen, 230 + 921).granted.sum() == 1151


def test_official_rounds_the_share_and_not_the_budget() -> None:
    seen = seen_of(OFFICIAL)
    assert OFFICIAL.keep(seen, 9, share=0.5).granted[0] == 18
    assert OFFICIAL.keep(seen, seen.positions // 2).granted[0] == 18
    assert not OFFICIAL.exact


def test_official_newlines_stand_on_every_row_of_the_padded_canvas() -> None:
    seen = seen_of(OFFICIAL, pad=(2, 0))
    assert OFFICIAL.keep(seen, 30).newlines.all()
    touched = OFFICIAL.keep(seen, 30, "touched").newlines
    assert touched.any()
    assert not touched[:2].any()


def test_official_says_when_it_keeps_nothing() -> None:
    with pytest.raises(BudgetError, match="keeps not one patch"):
        OFFICIAL.keep(seen_of(OFFICIAL), 1, share=0.001)


def test_the_second_softmax_is_a_choice_of_its_own() -> None:
    seen = seen_of()
    plain, again = HERO.keep(seen, 40), dataclasses.replace(HERO, double_softmax=True).keep(seen, 40)
    assert not plain.why["score"].allclose(again.why["score"], atol=1e-3)
    assert again.positions == 40


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alpha", -0.1),
        ("alpha", 1.1),
        ("density", 2.0),
        ("thumbnail", 1.5),
        ("t_cls", 0.0),
        ("t_clip", -1.0),
        ("low_layers", ()),
        ("high_layers", (True,)),
        ("variant", "authors"),
        ("allocation", "round"),
        ("relevance", "text"),
        ("double_softmax", 1),
        ("newlines", "canvas"),
        ("alpha", float("nan")),
    ],
)
def test_fields_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(MethodError, match=field):
        Hero(**{field: value})


def test_layers_that_the_tower_does_not_have_are_refused() -> None:
    with pytest.raises(MethodError, match="layer 22 does not exist in a vision tower of 6 blocks"):
        Hero(high_layers=(22,)).needs(6)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("hero(variant='herovlm')", "hero_plus"),
        ("hero(gist=4.0)", r"hero_plus\(overview=...\)"),
        ("hero(novelty=0)", r"hero_plus\(novelty=...\)"),
        ("uniform(layers=(0.95,))", r"cls_topk\(layers=...\)"),
    ],
)
def test_names_of_old_say_what_to_write_now(old: str, new: str) -> None:
    with pytest.raises(MethodError, match=f"write {new}"):
        parse(old)
