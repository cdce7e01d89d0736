"""Other signals than CLS rows, and pictures without an overview."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from grids import make_seen

from herovlm import MethodError, parse
from herovlm.types import Needs, Seen

DEPTH = 6
RAGGED: Any = (2, 3, 4, (0, 0), ((4, 2), (4, 4, 1)), False, False)
BY_SIGNAL = ["hero", "hero_plus(novelty=0)", "cls_topk", "fastervlm", "vtc_cls", "hired", "globalcom2", "vispruner"]
BY_SIGNAL += ["scope", "vscan", "visionzip", "vitcop", "todre"]


def seen_by(text: str, shape: Any = RAGGED, seed: int = 0) -> Seen:
    return make_seen(*shape, needs=parse(text).needs(DEPTH), depth=DEPTH, seed=seed)


def with_signal(text: str, signal: str) -> str:
    return f"{text[:-1]}, signal={signal})" if text.endswith(")") else f"{text}(signal={signal})"


@pytest.mark.parametrize("text", ["hero(signal=received)", "hero_plus(signal=probe)", "scope(signal=received)"])
def test_the_name_of_a_choice_needs_no_quotes(text: str) -> None:
    method = parse(text)
    assert str(method) == text.replace("=", "='").replace(")", "')")
    assert parse(str(method)) == method


def test_hero_asks_nothing_of_a_cls_token_by_another_signal() -> None:
    assert parse("hero(signal=probe)").needs(DEPTH) == Needs(probe=True, hidden=True)
    received = parse("hero(signal=received, low_layers=(1,), high_layers=(5,))").needs(DEPTH)
    assert received == Needs(received=(1, 5), hidden=True)
    asked = parse("hero(signal=probe, alpha=0.5)").needs(DEPTH)
    assert asked == Needs(probe=True, hidden=True, relevance="tower")


@pytest.mark.parametrize("more", ["variant=official", "double_softmax=True"])
def test_what_the_authors_do_to_cls_rows_is_done_to_nothing_else(more: str) -> None:
    with pytest.raises(MethodError, match="CLS rows; use variant='paper'"):
        parse(f"hero(signal=received, {more})")


@pytest.mark.parametrize("signal", ["received", "probe"])
@pytest.mark.parametrize("text", BY_SIGNAL)
def test_a_patch_with_more_of_the_signal_is_kept(text: str, signal: str) -> None:
    method, seen = parse(with_signal(text, signal)), seen_by(with_signal(text, signal))
    assert not seen.attention
    place = (1, 5)
    if signal == "received":
        louder: Any = {block: one.clone() for block, one in seen.received.items()}
        for one in louder.values():
            one[place] += 50
    else:
        assert seen.probe is not None
        louder = seen.probe.clone()
        louder[place[0], :, place[1]] += 50
    assert method.keep(dataclasses.replace(seen, **{signal: louder}), seen.positions // 3).mask[place]


@pytest.mark.parametrize("text", ["cls_topk", "fastervlm", "vtc_cls", "vispruner", "hired", "scope"])
def test_rows_of_a_pooling_head_that_are_the_cls_rows_choose_as_they_do(text: str) -> None:
    (probed, plain) = parse(with_signal(text, "probe")), parse(text)
    seen = make_seen(2, 2, 4, depth=DEPTH)
    same = dataclasses.replace(seen, attention=dict.fromkeys(range(DEPTH), seen.attention[0]))
    asked = dataclasses.replace(same, probe=seen.attention[0])
    assert probed.keep(asked, 20).mask.equal(plain.keep(same, 20).mask)


def test_without_an_overview_saliency_is_nearness_to_the_mean_of_the_tiles() -> None:
    seen = seen_by("hero(alpha=1, density=0)", (1, 3, 4, (0, 0), None, False, False))
    states = torch.tensor([[-0.2, 1.0], [1.0, 0.1], [1.0, -0.1]])
    kept = parse("hero(alpha=1, density=0)").keep(dataclasses.replace(seen, cls=states), 24)
    assert kept.granted[0] < kept.granted[1]
    assert kept.why["saliency"].sum() == pytest.approx(1)


@pytest.mark.parametrize("text", ["hired(signal=received)", "globalcom2(signal=received)"])
def test_without_an_overview_tiles_weigh_by_their_own_signal(text: str) -> None:
    seen = seen_by(text, (1, 3, 4, (0, 0), None, False, False))
    louder = {block: one * torch.tensor([1.0, 3.0, 1.0])[:, None] for block, one in seen.received.items()}
    method = parse(text)
    before, after = (method.keep(one, 24).granted for one in (seen, dataclasses.replace(seen, received=louder)))
    assert after[1] > before[1]
    assert after.sum() == before.sum() == 24


def test_without_an_overview_the_pivot_is_the_best_of_all_tiles() -> None:
    seen = seen_by("todre(signal=received)")
    (own,) = seen.received.values()
    louder = own.clone()
    louder[4, 1] = 99  # in the last row of windows, which is not full
    method = parse("todre(signal=received)")
    kept = method.keep(dataclasses.replace(seen, received=dict.fromkeys(seen.received, louder)), 5)
    assert kept.why["score"].flatten().argmax() == 4 * 16 + 1


def test_uniform_lays_one_grid_over_all_windows() -> None:
    even: Any = (
        2,
        2,
        4,
        (0, 0),
        ((3, 3), (3, 3)),
        False,
        False,
    )  # 6 x 6 patches, and a gap in the middle of the canvas
    seen = make_seen(*even)
    mask = parse("uniform").keep(seen, 9).mask
    canvas = seen.grid.canvas(mask)
    lines = torch.tensor(seen.counts.rows)
    assert canvas[lines][:, lines].nonzero().tolist() == [[y, x] for y in (0, 2, 4) for x in (0, 2, 4)]


@pytest.mark.parametrize(
    ("text", "missing", "instead"),
    [
        ("hero", {"relevance"}, ["hero(alpha=1.0)"]),
        ("hero", {"attention", "cls", "relevance"}, ["hero(signal='received')", "hero(signal='probe')"]),
        ("hero(alpha=0.5)", {"attention", "relevance"}, ["hero(signal='received', alpha=1.0)"]),
        ("globalcom2", {"queries"}, ["globalcom2(signal='received')", "globalcom2(signal='probe')"]),
        ("hero(variant='official')", {"attention"}, []),
        ("divprune", {"attention"}, []),
    ],
)
def test_a_method_says_what_to_write_where_a_signal_is_missing(text: str, missing: Any, instead: list[str]) -> None:
    told = [str(one) for one in parse(text).without(frozenset(missing))]
    assert told[: len(instead)] == instead
    assert bool(told) == bool(instead)
