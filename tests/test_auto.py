from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from grids import make_seen
from hypothesis import given
from hypothesis import strategies as st
from tree import ROOT

import herovlm
from herovlm.auto import CURVE, Auto, different, positions_each, read
from herovlm.demo import load, scenes
from herovlm.errors import BudgetError, MethodError, UnsupportedError
from herovlm.types import Needs, Seen


def seen_of(hidden: torch.Tensor) -> Seen:
    seen = make_seen(1, 1, 3, needs=Needs(hidden=True))
    object.__setattr__(seen, "hidden", hidden)
    return seen


def test_a_blank_picture_has_one_different_patch_a_tile_and_an_orthogonal_one_has_all() -> None:
    assert different(seen_of(torch.ones(2, 9, 4))) == pytest.approx(2, abs=1e-5)
    assert different(seen_of(torch.eye(9).expand(2, 9, 9))) == pytest.approx(18)


def test_padding_is_not_counted() -> None:
    seen = make_seen(1, 1, 3, (1, 0), needs=Needs(hidden=True))
    assert int(seen.valid.sum()) == 9 + 3
    object.__setattr__(seen, "hidden", torch.eye(9).expand(2, 9, 9))
    assert different(seen) == pytest.approx(12)


@given(low=st.floats(0.001, 0.9), more=st.floats(0, 0.5))
def test_who_accepts_a_larger_loss_never_keeps_more(low: float, more: float) -> None:
    assert positions_each(low + more) <= positions_each(low)


def test_the_curve_is_met_at_its_points_and_below_it_everything_is_kept() -> None:
    for loss, each in CURVE:
        assert positions_each(loss) == pytest.approx(each)
    assert math.isinf(positions_each(CURVE[0][0] / 2))
    seen = make_seen(2, 2, 3, needs=Needs(hidden=True))
    assert Auto(CURVE[0][0] / 2).budget(seen) == seen.positions
    assert Auto(0.3, curve=((0.01, 1e-9),)).budget(seen) == 1


@pytest.mark.parametrize(("text", "loss"), [("auto", 0.05), ("auto(0.02)", 0.02), ("auto(loss=0.1)", 0.1)])
def test_it_is_written_like_a_method(text: str, loss: float) -> None:
    assert read(text) == Auto(loss)
    assert read(str(Auto(loss))) == Auto(loss)


@pytest.mark.parametrize("text", ["all", "auto()", "auto(loss=x)", "auto(loss=1.5)", "auto(0)", "auto(2e)", ""])
def test_what_is_not_a_promise_is_refused(text: str) -> None:
    with pytest.raises(BudgetError, match=r"auto|loss"):
        read(text)


def asked(seed: int) -> tuple[Any, Any]:
    model, processor = load()
    scene = scenes.make(seed)
    text = f"USER: <image>\n{scene.questions[0].text} ASSISTANT:"
    return model, processor(images=scene.image, text=text, return_tensors="pt")


@pytest.mark.parametrize("method", ["hero", "random", "divprune"])
def test_any_method_keeps_what_the_picture_is_worth(method: str) -> None:
    model, inputs = asked(scenes.SPLITS["development"][0])
    short = herovlm.drop(model, inputs, method=method, keep="auto(loss=0.1)")
    (seen,), (kept,) = short.seen, short.kept
    assert kept.positions == Auto(0.1).budget(seen) < seen.positions
    more = herovlm.drop(model, inputs, method=method, keep=Auto(0.05))
    assert more.kept[0].positions > kept.positions


def test_pictures_of_one_batch_get_budgets_of_their_own() -> None:
    model, processor = load()
    pictures = [scenes.make(seed) for seed in scenes.SPLITS["development"][:2]]
    texts = [f"USER: <image>\n{scene.questions[0].text} ASSISTANT:" for scene in pictures]
    processor.tokenizer.padding_side = "left"
    both = processor(images=[[s.image] for s in pictures], text=texts, return_tensors="pt", padding=True)
    together = [kept.positions for kept in herovlm.drop(model, both, keep="auto").kept]
    alone = [
        herovlm.drop(model, processor(images=s.image, text=t, return_tensors="pt"), keep="auto").kept[0].positions
        for s, t in zip(pictures, texts, strict=True)
    ]
    assert together == alone
    assert together[0] != together[1]


def test_it_says_what_it_cannot_do() -> None:
    model, _ = asked(scenes.SPLITS["development"][0])
    with (
        pytest.raises(UnsupportedError, match="give a number"),
        herovlm.dropping(model, method="fastv", keep="auto"),
    ):
        pass
    with pytest.raises(MethodError, match="not recorded"):
        Auto().budget(make_seen(1, 1, 3, needs=Needs()))


def test_the_curve_is_the_measured_one() -> None:
    result = json.loads((ROOT / "benchmarks/results/auto.json").read_text("utf-8"))
    assert not result["small"]
    assert [list(point) for point in CURVE] == result["curve"]
