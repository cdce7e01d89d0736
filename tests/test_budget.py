"""A budget is read once, says what was meant, and its text is read back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from herovlm import budget
from herovlm.budget import Auto, Share, Tokens, read
from herovlm.errors import BudgetError

SHARES = st.floats(0, 1, exclude_min=True)
COUNTS = st.integers(1, 10_000)


@given(SHARES, COUNTS)
def test_a_share_is_at_least_one_and_at_most_all(keep: float, positions: int) -> None:
    found = Share(keep).of(positions)
    assert 1 <= found <= positions
    assert abs(found - keep * positions) <= max(0.5, 1 - keep * positions) + 1e-9


@given(COUNTS, COUNTS)
def test_tokens_are_that_many_and_at_most_all(tokens: int, positions: int) -> None:
    assert Tokens(tokens).of(positions) == min(tokens, positions)


@given(st.lists(SHARES, min_size=1, max_size=4) | st.lists(COUNTS, min_size=1, max_size=4))
def test_a_list_has_one_value_an_image(values: list[Any]) -> None:
    name = "tokens" if isinstance(values[0], int) else "keep"
    found: Any = read(**{name: values})
    assert found == read(**{name: tuple(values)})
    alone: list[Any] = [read(**{name: value}) for value in values]
    assert [found.of(500, i) for i in range(len(values))] == [one.of(500) for one in alone]
    budget.fits(found, len(values))
    for images in (0, len(values) + 1):
        with pytest.raises(BudgetError, match=rf"{len(values)} value.* {images} image"):
            budget.fits(found, images)


def test_nothing_said_is_a_fifth_and_both_said_is_an_error() -> None:
    assert read() == Share(0.2)
    both: list[tuple[Any, Any]] = [(0.2, 64), ("auto", 64), ([0.2], [64]), (Share(0.2), 64)]
    for keep, tokens in both:
        with pytest.raises(BudgetError, match="both given; give one"):
            read(keep, tokens)


@pytest.mark.parametrize(
    "share",
    [np.float64(0.2), np.float32(0.2), np.float16(0.2), np.array(0.2), torch.tensor(0.2), torch.tensor(0.2).double()],
)
def test_a_share_is_a_share_whoever_made_it(share: Any) -> None:
    found: Any = read(share)
    assert abs(found.of(2928) - 586) <= (share.dtype == np.float16)
    assert read([share, share]) == Share((found.each, found.each))


@pytest.mark.parametrize("share", [np.float32(0.2), np.array(0.2, dtype=np.float32), torch.tensor(0.2)])
def test_float32_is_written_as_it_was_meant(share: Any) -> None:
    assert str(read(share)) == "0.2"


@pytest.mark.parametrize("count", [np.int64(64), np.int8(64), np.array(64), torch.tensor(64)])
def test_a_number_is_a_number_whoever_made_it(count: Any) -> None:
    assert read(tokens=count) == Tokens(64)
    with pytest.raises(BudgetError, match="tokens=64"):
        read(count)


def test_arrays_and_tensors_are_lists() -> None:
    assert read(np.array([1.0, 0.1])) == read(torch.tensor([1.0, 0.1])) == Share((1.0, 0.1))
    assert read(tokens=np.array([64, 32])) == read(tokens=torch.tensor([64, 32])) == Tokens((64, 32))


@pytest.mark.parametrize(
    ("keep", "says"),
    [
        (0, r"not in \(0, 1\]"),
        (1, r"keep=1 is a whole number; .* tokens=1; all of them are keep=1\.0"),
        (64, "tokens=64"),
        (np.int64(64), "tokens=64"),
        (-1, "keep=-1"),
        (0.0, r"\(0, 1\]"),
        (-0.5, r"\(0, 1\]"),
        (1.5, "1.0 for all positions; for a number of positions an image say tokens=2"),
        (64.0, "tokens=64"),
        (float("nan"), r"\(0, 1\]"),
        (float("inf"), r"\(0, 1\]"),
        ("abc", "not a number"),
        ("0.2", "not a number"),
        (True, "not a number"),
        (np.bool_(True), "not a number"),
        (torch.empty((), device="meta"), "no numbers"),
        (1j, "not a number"),
        ({}, "not a number"),
        ([], "empty"),
        (np.zeros(0), "empty"),
        ([0.2, 1], r"keep\[1\]=1 .* tokens=1"),
        ([[0.2]], r"keep\[0\]"),
        ([0.2, None], r"keep\[1\]=None"),
        (["0.2"], r"keep\[0\]"),
    ],
)
def test_anything_else_is_explained(keep: Any, says: str) -> None:
    with pytest.raises(BudgetError, match=says) as error:
        read(keep)
    assert "keep" in str(error.value)
    assert "all 1 visual" not in str(error.value)


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        (0, "keeps nothing"),
        (-5, "keeps nothing"),
        (64.0, "not a whole number"),
        (0.2, r"not a whole number; .*keep=0\.2"),
        (True, "not a whole number"),
        ("64", "not a whole number"),
        ("auto", "not a whole number"),
        ([], "empty"),
        ([64, 0], r"tokens\[1\]=0 keeps nothing"),
    ],
)
def test_numbers_that_are_none_are_explained(tokens: Any, says: str) -> None:
    with pytest.raises(BudgetError, match=says):
        read(tokens=tokens)


def test_the_untouched_model_is_asked_for_by_shares_of_one() -> None:
    assert read(1.0).whole
    assert read([1.0, 1.0]).whole
    assert not read([1.0, 0.1]).whole
    assert not read(tokens=10**9).whole


ANY: Any = st.one_of(
    st.builds(Share, SHARES | st.lists(SHARES, min_size=2, max_size=3).map(tuple)),
    st.builds(Tokens, COUNTS | st.lists(COUNTS, min_size=2, max_size=3).map(tuple)),
    st.builds(Auto, st.sampled_from([0.05, 0.1, 0.002]), st.none() | st.sampled_from(["a.json", "a b/c'd,(e).json"])),
)


@given(ANY)
def test_its_text_is_read_back(one: budget.Budget) -> None:
    assert budget.parse(str(one)) == one
    assert budget.parse(str(budget.told(one))) == one
    assert read(one) == one


def test_texts_are_these() -> None:
    assert [str(read(keep)) for keep in (0.2, 1.0, [1.0, 0.1])] == ["0.2", "1.0", "1.0,0.1"]
    assert [str(read(tokens=tokens)) for tokens in (64, [64, 32])] == ["64t", "64t,32t"]
    assert [budget.told(read(0.2)), budget.told(read(tokens=64))] == [0.2, "64t"]
    labels = [budget.label(told) for told in (0.2, "64t", "64t,32t", "1.0,0.1", "auto(0.05)", 64)]
    assert labels == ["keep 0.2", "tokens 64", "tokens 64,32", "keep 1.0,0.1", "keep auto(0.05)", "tokens 64"]
    mixed: list[Any] = ["auto(0.05)", "64t", 0.1, "128t", 0.4, 32]
    assert sorted(mixed, key=budget.rank) == [0.4, 0.1, "128t", "64t", 32, "auto(0.05)"]


@pytest.mark.parametrize(
    ("text", "auto"),
    [
        ("auto", Auto()),
        ("auto()", Auto()),
        ("auto(0.02)", Auto(0.02)),
        (" auto( loss = 0.1 )", Auto(0.1)),
        ("auto(loss=0.1, file='a.json')", Auto(0.1, "a.json")),
        ('auto(file="a.json")', Auto(file="a.json")),
    ],
)
def test_a_promise_is_written_like_a_method(text: str, auto: Auto) -> None:
    assert read(text) == budget.parse(text) == auto
    assert read(str(auto)) == auto


BAD = [
    "all",
    "auto(loss=x)",
    "auto(loss=1.5)",
    "auto(0)",
    "auto(2e)",
    "",
    "auto(0.1, 0.2)",
    "auto(a=1)",
    "auto(file=3)",
]


@pytest.mark.parametrize("text", [*BAD, "automatic", "auto(loss='a')", "auto(loss=True)", "auto(", "auto\0", "(" * 300])
def test_what_is_not_a_promise_is_refused(text: str) -> None:
    with pytest.raises(BudgetError, match=r"auto|loss"):
        read(text)


@pytest.mark.parametrize(("text", "share"), [("0.2", 0.2), ("1", 1.0), ("1.0", 1.0), (".05", 0.05), ("2e-1", 0.2)])
def test_a_typed_share_is_a_float(text: str, share: float) -> None:
    found: Any = budget.shares_of(text).each
    assert found == share
    assert type(found) is float


@pytest.mark.parametrize("text", ["abc", "", "0", "0.0", "-1", "nan", "inf", "1e400", "20%", "0,2", "½", "0.2,", "64t"])
def test_what_is_typed_and_no_share_says_what_is(text: str) -> None:
    with pytest.raises(BudgetError, match=r"--keep .*0\.2"):
        budget.shares_of(text)


def test_a_typed_number_behind_keep_says_tokens() -> None:
    with pytest.raises(BudgetError, match="--tokens 150"):
        budget.shares_of("150")


@pytest.mark.parametrize("text", ["abc", "", "0", "-3", "1.5", "64,", "0.2"])
def test_what_is_typed_and_no_number_says_what_is(text: str) -> None:
    with pytest.raises(BudgetError, match=r"--tokens .*64"):
        budget.tokens_of(text)
