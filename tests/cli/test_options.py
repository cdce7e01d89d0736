"""What is typed means what a person thinks it means, or is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from herovlm import registry
from herovlm.budget import Auto, Share, Tokens
from herovlm.cli import options
from herovlm.errors import BudgetError, MethodError, UsageError


def test_one_answer_keeps_what_one_option_says() -> None:
    assert options.budget_of(None, None) == Share(0.2)
    assert options.budget_of("1", None) == Share(1.0)
    assert options.budget_of("1,0.1", None) == Share((1.0, 0.1))
    assert options.budget_of(None, "64") == Tokens(64)
    assert options.budget_of("auto(loss=0.1)", None) == Auto(0.1)
    with pytest.raises(BudgetError, match="--tokens 64 are both given"):
        options.budget_of("0.2", "64")


@pytest.mark.parametrize("text", ["abc", "", "0", "1.5", "-1", "nan", "20%", "½", "0.2,", "autumn", "64t"])
def test_what_is_no_share_is_refused(text: str) -> None:
    for read in (lambda: options.budget_of(text, None), lambda: options.budgets_of(text, None, "0.2")):
        with pytest.raises(BudgetError, match="keep"):
            read()


def test_several_budgets_keep_their_order_and_come_once() -> None:
    assert options.budgets_of(None, None, "0.4,0.2") == [Share(0.4), Share(0.2)]
    assert options.budgets_of("0.2, 0.1,auto(loss=0.1, file='a,b'),0.2", "64,32", "0.4") == [
        *(Share(0.2), Share(0.1), Auto(0.1, "a,b")),
        *(Tokens(64), Tokens(32)),
    ]
    assert options.budgets_of(None, "64", "0.4,0.2") == [Tokens(64)]


def test_methods_part_at_the_commas_outside_brackets() -> None:
    text = "hero(alpha=0.3, low_layers=(1, 2)), random(seed=2),full,full"
    assert options.methods_of(text) == ["hero(low_layers=(1, 2), alpha=0.3)", "random(seed=2)", "full"]


def test_methods_before_the_llm_are_a_group() -> None:
    assert options.methods_of("before") == list(dict.fromkeys(["full", *registry.methods()]))
    assert options.methods_of("random(seed=2),before,random")[0] == "random(seed=2)"


@pytest.mark.parametrize("text", ["", ",", "hero,", "hero(alpha=0.3", "heroo", "hero,randon"])
def test_methods_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(MethodError):
        options.methods_of(text)


def test_full_keeps_all_so_it_comes_once() -> None:
    all_, fifth, few = Share(1.0), Share(0.2), Tokens(50)
    assert options.plan_of(["full", "hero"], [fifth, few]) == [("full", all_), ("hero", fifth), ("hero", few)]
    plan = options.plan_of(["full + a", "full_b"], [fifth, few])
    assert plan == [("full + a", all_), ("full_b", fifth), ("full_b", few)]


def test_every_method_has_its_place_and_full_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = {"deeper": "somewhere:Deeper", "pool_llm": "somewhere:PoolLlm"}
    monkeypatch.setattr("herovlm.registry.INSIDE", inside)
    named = options.every()
    assert named[0] == "full"
    assert set(registry.METHODS) < {*named}
    assert named[-2:] == ["hero + deeper", "pool + pool_llm"], "behind HERO, or behind their own first stage"


def test_the_last_word_is_the_question(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_text("x")
    assert options.pictures_and_question(["a", "b", " why? "]) == (["a", "b"], "why?")
    with pytest.raises(UsageError, match="question is missing"):
        options.pictures_and_question([str(file)])
    with pytest.raises(UsageError, match="question is missing"):
        options.pictures_and_question([str(file), str(file)])
    with pytest.raises(UsageError, match="picture is missing"):
        options.pictures_and_question(["why?"])
    with pytest.raises(UsageError, match="question is empty"):
        options.pictures_and_question([str(file), " \n"])


@pytest.mark.parametrize("question", ["x" * 5000, "is a\0b there?", "a/b?"])
def test_a_question_need_not_look_like_a_path(question: str) -> None:
    assert options.question_of(question) == question


def test_a_page_has_a_place(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_text("x")
    assert options.target(None) is None
    assert options.target(tmp_path / "new.html") == tmp_path / "new.html"
    for path, says in ((tmp_path, "not a file"), (tmp_path / "no" / "a.html", "no directory"), (photo, "a picture")):
        with pytest.raises(UsageError, match=says):
            options.target(path, [str(photo)])
    assert options.target(photo, []) == photo


@pytest.mark.parametrize(
    ("text", "narrow"), [(None, None), ("0.5", 0.5), ("1", 1.0), ("0.4:0.5", (0.4, 0.5)), ("12:.25", (12, 0.25))]
)
def test_a_share_or_a_block_and_a_share(text: str | None, narrow: object) -> None:
    read = options.narrow_of(text)
    assert read == narrow
    assert not isinstance(read, tuple) or type(read[0]) is type(narrow[0])  # type: ignore[index]


@pytest.mark.parametrize("text", ["", "half", "0", "-0.5", "1.5", "12", "nan", "12:", "a:0.5", "1:2:0.5", "0.5:0"])
def test_what_narrows_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--narrow .* 0\.5"):
        options.narrow_of(text)
