from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from grids import make_seen
from hypothesis import given
from hypothesis import strategies as st
from tree import ROOT

import herovlm
from herovlm import auto
from herovlm.auto import FILE, Calibrated, calibrated, different, positions_each
from herovlm.budget import Auto
from herovlm.demo import WEIGHTS, load, scenes
from herovlm.errors import BudgetError, MethodError, UnsupportedError
from herovlm.types import Needs, Seen

CURVE = ((0.01, 8.0), (0.05, 3.0), (0.2, 1.0))
METHOD = "hero_plus"  # the first that the demo model was calibrated for


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
    assert positions_each(low + more, CURVE) <= positions_each(low, CURVE)


def test_the_curve_is_met_at_its_points_and_below_it_everything_is_kept() -> None:
    for loss, each in CURVE:
        assert positions_each(loss, CURVE) == pytest.approx(each)
    assert math.isinf(positions_each(CURVE[0][0] / 2, CURVE))
    seen = make_seen(2, 2, 3, needs=Needs(hidden=True))
    assert Calibrated(CURVE[0][0] / 2, curve=CURVE).spend(seen) == seen.positions
    assert Calibrated(0.3, curve=((0.01, 1e-9),)).spend(seen) == 1


def asked(seed: int) -> tuple[Any, Any]:
    model, processor = load()
    scene = scenes.make(seed)
    text = f"USER: <image>\n{scene.questions[0].text} ASSISTANT:"
    return model, processor(images=scene.image, text=text, return_tensors="pt")


def test_it_keeps_what_the_picture_is_worth() -> None:
    model, inputs = asked(scenes.SPLITS["development"][0])
    short = herovlm.drop(model, inputs, method=METHOD, keep="auto(loss=0.1)")
    (seen,), (kept,) = short.seen, short.kept
    assert kept.positions == calibrated(Auto(0.1), model, METHOD).spend(seen) < seen.positions
    more = herovlm.drop(model, inputs, method=METHOD, keep=Auto(0.05))
    assert more.kept[0].positions > kept.positions


def test_pictures_of_one_batch_get_budgets_of_their_own() -> None:
    model, processor = load()
    pictures = [scenes.make(seed) for seed in scenes.SPLITS["development"][:2]]
    texts = [f"USER: <image>\n{scene.questions[0].text} ASSISTANT:" for scene in pictures]
    processor.tokenizer.padding_side = "left"
    both = processor(images=[[s.image] for s in pictures], text=texts, return_tensors="pt", padding=True)
    how: Any = {"method": METHOD, "keep": "auto"}
    together = [kept.positions for kept in herovlm.drop(model, both, **how).kept]
    alone = [
        herovlm.drop(model, processor(images=s.image, text=t, return_tensors="pt"), **how).kept[0].positions
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
    with pytest.raises(UnsupportedError, match="narrow"), herovlm.dropping(model, keep="auto", narrow=0.5):
        pass
    with pytest.raises(MethodError, match="not recorded"):
        Calibrated(curve=CURVE).spend(make_seen(1, 1, 3, needs=Needs()))


def test_the_curve_of_the_demo_model_is_the_measured_one() -> None:
    result = json.loads((ROOT / "benchmarks/results/auto.json").read_text("utf-8"))
    assert not result["small"]
    calibration = auto.load(WEIGHTS / FILE)
    assert calibration["curves"][METHOD] == result["curve"]
    for method, curve in calibration["curves"].items():  # each point is the upper end of its interval
        rates = calibration["measured"][method]["rates"]
        assert {each: loss for loss, each in curve} == {float(e): rate["interval95"][1] for e, rate in rates.items()}


def test_the_demo_model_is_calibrated_for_what_is_used_when_nothing_is_said() -> None:
    model, inputs = asked(scenes.SPLITS["development"][0])
    kept = herovlm.drop(model, inputs, keep="auto(loss=0.1)").kept[0]
    assert 1 <= kept.positions < herovlm.drop(model, inputs, keep="auto(loss=0.05)").kept[0].positions


def test_a_model_without_a_calibration_is_refused_with_the_command(
    models: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEROVLM_HOME", str(tmp_path))
    small = models()
    inputs = small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nHi? ASSISTANT:"])
    for keep in ("auto", "auto(loss=0.1)", Auto(0.1), "auto(file='none.json')"):
        with pytest.raises(BudgetError, match=r"herovlm calibrate .* --methods 'random'"):
            herovlm.drop(small.model, inputs, method="random", keep=keep)
        with pytest.raises(BudgetError, match="herovlm calibrate"), herovlm.dropping(small.model, keep=keep):
            pass


def test_the_calibration_of_another_model_is_refused(models: Any) -> None:
    small = models()
    inputs = small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nHi? ASSISTANT:"])
    with pytest.raises(BudgetError, match="another model"):
        herovlm.drop(small.model, inputs, method=METHOD, keep=f"auto(file={str(WEIGHTS / FILE)!r})")


def test_a_method_that_was_not_measured_is_refused() -> None:
    model, inputs = asked(scenes.SPLITS["development"][0])
    for method in ("random", f"{METHOD} + fastv"):
        with (
            pytest.raises(BudgetError, match=f"what .*{METHOD}.* loses, and nothing of '{method.replace('+', '.')}'"),
            herovlm.dropping(model, method=method, keep="auto"),
        ):
            model.generate(**inputs)


def written(model: Any, path: Path, curve: Any = CURVE) -> Path:
    """A calibration of a model."""
    told = {"model": {"weights": auto.fingerprint(model)}, "curves": {"random": curve}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told), "utf-8")
    return path


def test_it_is_found_beside_the_weights_in_the_users_folder_or_where_one_says(
    models: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEROVLM_HOME", str(tmp_path / "home"))
    model = models().model
    for name, path in (
        (str(tmp_path), tmp_path / FILE),
        ("some-org/some-model-7b", tmp_path / "home/calibrations/some-org--some-model-7b.json"),
        ("", tmp_path / "home/calibrations/unnamed.json"),
    ):
        monkeypatch.setattr(model, "name_or_path", name)
        assert auto.place(model) == path
        with pytest.raises(BudgetError, match="there is no"):
            calibrated(Auto(), model, "random")
        written(model, path)
        assert calibrated(Auto(), model, "random").curve == CURVE
    other = written(model, tmp_path / "other.json", [[0.1, 2.0]])
    assert calibrated(Auto(file=str(other)), model, "random").curve == ((0.1, 2.0),)


def test_weights_name_a_model_in_any_precision_and_no_other(models: Any) -> None:
    model, other = models().model, tiny.make(seed=5).model
    weights = auto.fingerprint(model)
    assert len(weights) >= 20
    assert auto.same(weights, model)
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        twin = tiny.make().model.to(dtype)
        assert auto.same(weights, twin)
        assert auto.same(auto.fingerprint(twin), model)
    assert not auto.same(weights, other)
    tuned = tiny.make().model
    with torch.no_grad():
        for weight in tuned.parameters():
            weight += 0.05 * weight.abs().mean() * torch.randn(weight.shape, generator=torch.manual_seed(1))
    assert not auto.same(weights, tuned), "a model that was trained on"
    assert not auto.same({**weights, "another.weight": [0.0]}, model)
    assert not auto.same(weights, tiny.make().model.to("meta")), "what cannot be read is not it"


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "null", "[" * 9999, "\xff", '{"model": {"weights": {}}, "curves": {}}'),
        '{"model": {"weights": {}}, "curves": {"random": []}}',
        '{"model": {"weights": {}}, "curves": {"random": [[0.1, 2], [0.05, 1]]}}',
        '{"model": {"weights": {}}, "curves": {"random": [[0.1, 2], [0.2, 3]]}}',
        '{"model": {"weights": {}}, "curves": {"random": [[0.1, "x"]]}}',
        '{"model": {"weights": {}}, "curves": {"random": [[0.1, NaN]]}}',
        '{"model": {"weights": []}, "curves": {"random": [[0.1, 2]]}}',
        '{"model": {"weights": {"lm_head.weight": "x"}}, "curves": {"random": [[0.1, 2]]}}',
        '{"model": {"weights": {"lm_head.weight": [null]}}, "curves": {"random": [[0.1, 2]]}}',
    ],
)
def test_what_is_no_calibration_is_told(models: Any, tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BudgetError, match="is not a calibration of herovlm"):
        calibrated(Auto(file=str(path)), models().model, "random")
