"""What may be written after `--model_args`, read without lmms-eval."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from tree import ROOT

from herovlm import BudgetError, MethodError, MissingExtraError, UsageError, registry
from herovlm.budget import Auto, Share, Tokens
from herovlm.eval import lmms
from herovlm.eval.lmms.arguments import Arguments, check, split


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("pretrained=a/b,method=hero,keep=0.2", "hero"),
        ("pretrained=a/b,method=hero(alpha=1),keep=0.2", "hero(alpha=1)"),
        ("pretrained=a/b,method=hero(alpha=0.3, low_layers=(2, 3)),keep=0.2", "hero(alpha=0.3, low_layers=(2, 3))"),
        (
            "pretrained=a/b, method=hero(newlines='all') + fastv(layer=2), keep=0.2",
            "hero(newlines='all') + fastv(layer=2)",
        ),
        ("pretrained=a/b,method=\"hero(newlines='all',alpha=1)\",keep=0.2,", "hero(newlines='all',alpha=1)"),
        ("pretrained='a/b',method='hero(alpha=1)',keep='0.2'", "hero(alpha=1)"),
    ],
)
def test_a_method_with_commas_stays_whole(text: str, method: str) -> None:
    assert split(text) == {"pretrained": "a/b", "method": method, "keep": "0.2"}
    assert check(split(text)) == Arguments(pretrained="a/b", method=method, keep="0.2")


@pytest.mark.parametrize("text", ["pretrained=a,hero", "pretrained=a,keep=0.2,keep=0.3"])
def test_what_cannot_be_split_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--model_args 'pretrained=a"):
        split(text)


def test_a_share_and_a_number_have_names_of_their_own() -> None:
    given: list[dict[str, Any]] = [{"keep": "1.0"}, {"keep": "1"}, {"keep": "0.05"}, {"keep": 0.4}, {}]
    asked = [check({"pretrained": "a", **one}).budget for one in given]
    assert asked == [Share(1.0), Share(1.0), Share(0.05), Share(0.4), Share(0.2)]
    assert check({"pretrained": "a", "tokens": "160"}).budget == check({"pretrained": "a", "tokens": 160}).budget
    assert check({"pretrained": "a", "tokens": "160"}).budget == Tokens(160)
    assert check({"pretrained": "a", "keep": "auto(0.1)"}).budget == Auto(0.1)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"methd": "hero"}, UsageError, "no argument 'methd'; did you mean 'method'"),
        ({"pretrained": ""}, UsageError, "pretrained is missing"),
        ({"batch_size": "auto"}, UsageError, "batch_size=auto is not a whole number"),
        ({"max_new_tokens": "0"}, UsageError, "max_new_tokens=0"),
        ({"keep": "1.5"}, BudgetError, "keep 1.5"),
        ({"keep": "half"}, BudgetError, "keep 'half'"),
        ({"keep": "150"}, BudgetError, "tokens 150"),
        ({"tokens": "0.2"}, BudgetError, "tokens='0.2'"),
        ({"keep": "0.2", "tokens": "64"}, BudgetError, "both given"),
        ({"method": "heroo"}, MethodError, "did you mean 'hero'"),
        ({"positions": "old"}, UsageError, "positions='old'"),
        ({"newlines": "None"}, UsageError, "newlines='None'"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(given: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        check({"pretrained": "nowhere/at-all", **given})


def test_the_entry_point_is_declared() -> None:
    declared = (ROOT / "pyproject.toml").read_text("utf-8").partition('[project.entry-points."lmms_eval.models"]\n')[2]
    assert declared.startswith(f'herovlm = "{lmms.manifests.__module__}:{lmms.manifests.__name__}"\n')


def test_without_lmms_eval_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmms_eval", None)
    with pytest.raises(MissingExtraError, match="extra 'lmms': pip install"):
        lmms.manifests()


def test_every_family_has_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    import lmms_stub

    made, _ = lmms_stub.install(monkeypatch)
    (manifest,) = lmms.manifests()
    assert manifest.model_id == "herovlm"
    assert set(manifest.aliases) == {f"herovlm_{family}" for family in registry.families()}
    assert manifest.chat_class_path == f"{made.__module__}.{made.__qualname__}"
