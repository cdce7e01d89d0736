"""What is typed means what a person thinks it means, or is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from herovlm import registry
from herovlm.cli import options
from herovlm.errors import BudgetError, MethodError, UsageError


@pytest.mark.parametrize(
    ("text", "keep"), [("0.2", 0.2), ("1.0", 1.0), (".05", 0.05), ("150", 150), ("1", 1), ("2e-1", 0.2)]
)
def test_a_number_with_a_point_is_a_share_and_without_a_count(text: str, keep: float | int) -> None:
    read = options.keep_of(text)
    assert read == keep
    assert type(read) is type(keep)


@pytest.mark.parametrize("text", ["abc", "", "0", "0.0", "1.5", "-1", "-0.2", "nan", "inf", "1e400", "20%", "0,2", "½"])
def test_what_is_no_amount_says_what_is(text: str) -> None:
    with pytest.raises(BudgetError, match=r"keep=.*0\.2.*150"):
        options.keep_of(text)


def test_several_amounts_keep_their_order_and_come_once() -> None:
    assert options.keeps_of("0.2, 0.1,150,0.2") == [0.2, 0.1, 150]


def test_methods_part_at_the_commas_outside_brackets() -> None:
    text = "hero(alpha=0.3, low_layers=(1, 2)), random(seed=2),full,full"
    assert options.methods_of(text) == ["hero(low_layers=(1, 2), alpha=0.3)", "random(seed=2)", "full"]


@pytest.mark.parametrize("text", ["", ",", "hero,", "hero(alpha=0.3", "heroo", "hero,randon"])
def test_methods_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(MethodError):
        options.methods_of(text)


def test_full_keeps_all_so_it_comes_once() -> None:
    plan = options.plan_of(["full", "hero"], [0.2, 50])
    assert plan == [("full", 1.0), ("hero", 0.2), ("hero", 50)]
    assert options.plan_of(["full + a", "full_b"], [0.2, 50]) == [("full + a", 1.0), ("full_b", 0.2), ("full_b", 50)]


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
