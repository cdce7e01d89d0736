from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen
from hypothesis import given
from hypothesis import strategies as st

from herovlm.errors import BudgetError, MethodError
from herovlm.ops import allocate, select
from herovlm.ops.fit import closed_by, fit, touched
from herovlm.types import Newlines, Seen

SHAPES = [(0, 0), (1, 1), (1, 2), (2, 1), (2, 2)]


@st.composite
def pictures(draw: st.DrawFn) -> Seen:
    rows, cols = draw(st.sampled_from(SHAPES))
    side = draw(st.integers(2, 5))
    pad = (draw(st.integers(0, max(0, rows * side - 1) // 2)), draw(st.integers(0, max(0, cols * side - 1) // 2)))
    return make_seen(rows, cols, side, pad, seed=draw(st.integers(0, 99)), newlines=draw(st.booleans()))


def chooser(seen: Seen, kind: str):  # type: ignore[no-untyped-def]
    """Nested choices over all tiles, or the choices of largest remainders, which are not nested."""
    scores = seen.attention[0].mean(1)
    flat = select.ranks(scores.view(1, -1), seen.valid.view(1, -1)).view_as(scores)
    ranks, room = select.ranks(scores, seen.valid), seen.valid.sum(1)
    weight = scores.sum(1) ** 3
    if kind == "nested":
        return scores, lambda n: (flat < n) & seen.valid
    return scores, lambda n: select.top(ranks, allocate.exact(weight, n, room), seen.valid)


@given(pictures(), st.sampled_from(["nested", "shares"]), st.sampled_from(["touched", "all", "none"]), st.data())
def test_the_budget_is_spent_to_the_last_position(seen: Seen, kind: str, rule: Newlines, data: st.DataObject) -> None:
    sent, patches = int(seen.grid.sent.sum()), int(seen.valid.sum())
    budget = data.draw(st.integers(sent + 1 if rule == "all" else 1, seen.positions))
    scores, choose = chooser(seen, kind)
    mask, newlines = fit(choose, seen, scores, budget, rule)
    assert int(mask.sum()) + int(newlines.sum()) == budget
    assert mask.any()
    assert not (mask & ~seen.valid).any()
    assert not (newlines & ~seen.grid.sent).any()
    if rule == "touched":
        assert not (touched(seen.grid, mask) & seen.grid.sent & ~newlines).any(), "a row with a patch has its newline"
    if rule == "all":
        assert newlines.equal(seen.grid.sent)
    if rule == "none" and budget <= patches:
        assert not newlines.any()


@pytest.mark.parametrize("shape", [(2, 2, 4), (1, 2, 5), (3, 1, 3)])
def test_no_larger_nested_choice_would_have_fitted(shape: tuple[int, int, int]) -> None:
    seen = make_seen(*shape)
    scores, choose = chooser(seen, "nested")
    costs = [n + int(touched(seen.grid, choose(n)).sum()) for n in range(int(seen.valid.sum()) + 1)]
    for budget in range(1, seen.positions):
        mask, _ = fit(choose, seen, scores, budget, "touched")
        best = max(n for n, cost in enumerate(costs) if cost <= budget)
        assert not (choose(best) & ~mask).any()


@given(pictures())
def test_everything_is_kept_when_there_is_room_for_it(seen: Seen) -> None:
    for rule in ("touched", "all", "none"):
        scores, choose = chooser(seen, "nested")
        mask, newlines = fit(choose, seen, scores, seen.positions, rule)
        assert mask.equal(seen.valid)
        assert newlines.equal(seen.grid.sent)


def test_one_position_is_a_thumbnail_patch_even_when_the_best_patch_is_local() -> None:
    seen = make_seen(2, 2, 3)
    scores = torch.zeros(5, 9)
    scores[3, 4], scores[0, 7] = 2.0, 1.0
    ranks = select.ranks(scores.view(1, -1), seen.valid.view(1, -1)).view_as(scores)
    mask, newlines = fit(lambda n: (ranks < n) & seen.valid, seen, scores, 1, "touched")
    assert mask.nonzero().tolist() == [[0, 7]]
    assert not newlines.any()


def test_without_a_thumbnail_two_positions_are_needed() -> None:
    seen = make_seen(2, 2, 3)
    valid = seen.valid.clone()
    valid[0] = False
    seen = dataclasses.replace(seen, valid=valid)
    ranks = select.ranks(torch.zeros(1, 45), valid.view(1, -1)).view(5, 9)
    with pytest.raises(BudgetError, match="keep >= 2 positions"):
        fit(lambda n: (ranks < n) & valid, seen, torch.zeros(5, 9), 1, "touched")
    mask, newlines = fit(lambda n: (ranks < n) & valid, seen, torch.zeros(5, 9), 2, "touched")
    assert (int(mask.sum()), int(newlines.sum())) == (1, 1)


def test_all_newlines_say_the_smallest_budget_that_works() -> None:
    seen = make_seen(2, 2, 4)
    scores, choose = chooser(seen, "nested")
    with pytest.raises(BudgetError, match=r"keep >= 9 positions \(a share of 0\.1023\)"):
        fit(choose, seen, scores, 8, "all")
    mask, newlines = fit(choose, seen, scores, 9, "all")
    assert (int(mask.sum()), int(newlines.sum())) == (1, 8)


def test_the_whole_canvas_cannot_be_fitted() -> None:
    seen = make_seen(2, 2, 3)
    scores, choose = chooser(seen, "nested")
    with pytest.raises(MethodError, match="outside the budget"):
        fit(choose, seen, scores, 9, "canvas")


def test_the_canvas_has_rows_that_are_not_sent() -> None:
    seen = make_seen(2, 2, 3, (1, 0))
    nothing = torch.zeros_like(seen.valid)
    assert touched(seen.grid, ~nothing).all()
    assert closed_by(seen.grid, ~nothing, "touched").equal(seen.grid.sent)
    assert closed_by(seen.grid, nothing, "canvas").sum() == 6
    assert closed_by(seen.grid, nothing, "all").sum() == 4
    assert closed_by(seen.grid, nothing, "touched").sum() == 0


@given(pictures(), st.data())
def test_inputs_are_untouched(seen: Seen, data: st.DataObject) -> None:
    budget = data.draw(st.integers(1, seen.positions))
    scores, choose = chooser(seen, "shares")
    choices = [choose(n) for n in range(int(seen.valid.sum()) + 1)]
    after = scores, seen.valid, seen.grid.row, seen.grid.sent, *choices
    before = [tensor.clone() for tensor in after]
    first = fit(choices.__getitem__, seen, scores, budget, "touched")
    second = fit(choices.__getitem__, seen, scores, budget, "touched")
    assert all(a.equal(b) for a, b in zip(before, after, strict=True))
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))


def test_no_newline_is_bought_unless_asked_for() -> None:
    seen = make_seen(2, 2, 4)
    scores, choose = chooser(seen, "nested")
    mask, newlines = fit(choose, seen, scores, 30)
    assert (int(mask.sum()), int(newlines.sum())) == (30, 0)
