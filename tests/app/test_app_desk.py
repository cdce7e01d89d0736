"""The desk answers what is asked within its limits, and each answer belongs to its own picture and question."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grids import make_seen
from PIL import Image
from reports import an_answer

from herovlm.app import desk as desks
from herovlm.app.desk import Desk, Limits, StoppedError
from herovlm.errors import BudgetError, HeroError, PictureError, UsageError
from herovlm.viz.records import Answer

METHODS = ["hero", "random", "uniform", "pool", "todre"]  # the last cannot, "uniform" fails


class Stub:
    """Answers with what it was asked, and remembers it."""

    title, fit, reads = "a model", "squeeze", None

    def __init__(self) -> None:
        self.asked: list[tuple[str, float | int]] = []
        self.together: list[object] = []

    def answer(
        self,
        pictures: Sequence[Image.Image],
        question: str,
        method: str,
        keep: float | int,
        new_tokens: int,
        pulse: Callable[[], None],
    ) -> Answer:
        self.asked.append((method, keep))
        pulse()
        if method == "todre":
            raise BudgetError("too few for todre")
        if method == "uniform":
            raise RuntimeError("a shape that nobody thought of")
        return an_answer(make_seen(1, 1, 4), method, f"{question} {pictures[0].getpixel((0, 0))}")

    def timed(self, _pictures: object, _question: str, plan: object, answers: Sequence[Answer], _: object) -> Any:
        self.together.append(plan)
        return tuple(replace(answer, vision=7.0) for answer in answers)


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def desk(stub: Stub) -> Desk:
    return Desk(stub, METHODS)


@pytest.fixture
def photo(tmp_path: Path) -> str:
    return picture(tmp_path / "red.png", "red")


def picture(path: Path, colour: str) -> str:
    Image.new("RGB", (40, 30), colour).save(path)
    return str(path)


def test_all_positions_come_first_then_each_method_with_its_share(desk: Desk, stub: Stub, photo: str) -> None:
    shown, asked = desk.ask(photo, "red.png", " why? ", ["hero", "random"], 25)
    assert shown.size == (40, 30)
    assert asked.question == "why?"
    assert [answer.method for answer in asked.answers] == ["full", "hero", "random"]
    assert stub.asked == [("full", 1.0), ("hero", 0.25), ("random", 0.25)]


def test_what_was_answered_is_not_answered_again(desk: Desk, stub: Stub, photo: str) -> None:
    first = desk.ask(photo, "a", "why?", ["hero"], 20)[1].answers
    again = desk.ask(photo, "b", "why?", ["hero", "random"], 20)[1].answers
    assert again[:2] == first
    assert stub.asked == [("full", 1.0), ("hero", 0.2), ("random", 0.2)]


def test_another_picture_or_question_has_its_own_answer(desk: Desk, photo: str, tmp_path: Path) -> None:
    def says(path: str, question: str) -> str:
        return desk.ask(path, "a", question, ["hero"], 20)[1].answers[1].text

    before = says(photo, "why?")
    assert len({before, says(photo, "how?"), says(picture(tmp_path / "b.png", "blue"), "why?")}) == 3
    assert says(picture(Path(photo), "green"), "why?") != before  # the same file with other content


def test_only_so_many_answers_are_remembered(
    desk: Desk, stub: Stub, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "REMEMBERED", 2)
    for method in ("hero", "random", "hero"):  # full is used each time, so it is the other one that goes
        desk.ask(photo, "a", "why?", [method], 20)
    assert [method for method, _ in stub.asked] == ["full", "hero", "random", "hero"]


def test_a_method_that_cannot_answer_says_why_and_the_others_answer(desk: Desk, photo: str) -> None:
    asked = desk.ask(photo, "a", "why?", ["todre", "hero"], 20)[1]
    assert [answer.method for answer in asked.answers] == ["full", "hero"]
    assert [(no.method, no.why) for no in asked.refused] == [("todre", "too few for todre")]


def test_when_the_time_is_over_the_rest_is_refused(
    desk: Desk, stub: Stub, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter((0.0, 1.0, 119.0, 121.0, 122.0))
    monkeypatch.setattr("herovlm.app.desk.time.monotonic", lambda: next(now))
    asked = desk.ask(photo, "a", "why?", ["hero", "random"], 20)[1]
    assert [answer.method for answer in asked.answers] == ["full", "hero"]
    assert "120 seconds" in asked.refused[0].why


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"question": "  "}, "no question"),
        ({"question": "x" * 501}, "501 letters"),
        ({"methods": []}, "0 methods"),
        ({"methods": ["hero", "random", "uniform", "pool", "todre"]}, "5 methods"),
        ({"methods": ["hero(alpha=0.3)"]}, "no method 'hero"),
        ({"percent": 0}, "0 %"),
        ({"percent": 101}, "101 %"),
        ({"percent": float("nan")}, "nan %"),
        ({"path": None}, "no picture"),
    ],
)
def test_what_is_out_of_the_limits_is_refused_before_any_work(
    desk: Desk, stub: Stub, photo: str, change: dict[str, object], word: str
) -> None:
    given = {"path": photo, "name": "a", "question": "why?", "methods": ["hero"], "percent": 20, **change}
    with pytest.raises(UsageError, match=word):
        desk.ask(**given)
    assert stub.asked == []


def test_a_picture_is_bounded_in_bytes_and_in_pixels(stub: Stub, photo: str) -> None:
    for limits, word in ((Limits(bytes=10), "MB"), (Limits(pixels=1199), "pixels")):
        with pytest.raises(PictureError, match=f"mine.png has .*{word}"):
            Desk(stub, METHODS, limits).ask(photo, "mine.png", "why?", ["hero"], 20)
    Desk(stub, METHODS, Limits(pixels=1200)).ask(photo, "mine.png", "why?", ["hero"], 20)


def test_a_file_that_is_no_picture_is_called_by_its_own_name(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "secret-place.png").write_text("no picture")
    with pytest.raises(PictureError, match=r"mine\.png is not a picture") as caught:
        desk.ask(str(tmp_path / "secret-place.png"), "mine.png", "why?", ["hero"], 20)
    assert str(tmp_path) not in str(caught.value)


def test_when_nothing_can_answer_the_first_reason_is_raised(
    desk: Desk, stub: Stub, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Answer:
        raise BudgetError(f"reason {len(stub.asked)}")

    monkeypatch.setattr(stub, "answer", refuse)
    with pytest.raises(HeroError, match="reason 0"):
        desk.ask(photo, "a", "why?", ["hero"], 20)


def test_what_is_shown_together_was_timed_together(desk: Desk, stub: Stub, photo: str) -> None:
    for percent in (20, 30):
        asked = desk.ask(photo, "a", "why?", ["todre", "hero"], percent)[1]
        assert {answer.vision for answer in asked.answers} == {7.0}
    assert stub.together == [[("full", 1.0), ("hero", 0.2)], [("full", 1.0), ("hero", 0.3)]]


def test_a_failure_that_nobody_thought_of_is_that_of_one_method(desk: Desk, photo: str) -> None:
    asked = desk.ask(photo, "a", "why?", ["uniform", "hero"], 20)[1]
    assert [answer.method for answer in asked.answers] == ["full", "hero"]
    assert [(no.method, "RuntimeError" in no.why) for no in asked.refused] == [("uniform", True)]


def test_without_memory_for_the_times_there_are_answers(
    desk: Desk, stub: Stub, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(stub, "timed", full)
    assert len(desk.ask(photo, "a", "why?", ["hero"], 20)[1].answers) == 2


def test_a_picture_that_was_removed_is_asked_for_again(desk: Desk, photo: str) -> None:
    Path(photo).unlink()
    with pytest.raises(PictureError, match=r"mine\.png was removed after an hour.*put it in again"):
        desk.ask(photo, "mine.png", "why?", ["hero"], 20)


@pytest.mark.parametrize("first", ["one", "two"])  # whoever stops is being answered, or waits for another's answer
def test_whoever_asked_can_stop_it_and_nobody_else(
    desk: Desk, stub: Stub, photo: str, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    begun, opened, told = threading.Event(), threading.Semaphore(0), threading.Event()
    answer, open_picture = stub.answer, desks.open_picture

    def slow(*given: Any) -> Answer:
        begun.set()
        assert told.wait(60)
        return answer(*given)

    def opening(*given: Any, **options: Any) -> Any:
        opened.release()
        return open_picture(*given, **options)

    monkeypatch.setattr(stub, "answer", slow)
    monkeypatch.setattr(desks, "open_picture", opening)
    found: dict[str, object] = {}

    def ask(who: str) -> None:
        try:
            found[who] = len(desk.ask(photo, "a", who, ["hero"], 20, who)[1].answers)
        except StoppedError as error:
            found[who] = error

    users = [threading.Thread(target=ask, args=(who,)) for who in (first, {"one": "two", "two": "one"}[first])]
    users[0].start()
    assert begun.wait(60)
    users[1].start()
    assert opened.acquire(timeout=60)
    assert opened.acquire(timeout=60)
    desk.stop("one")
    desk.stop("three")
    told.set()
    for user in users:
        user.join(60)
    assert isinstance(found["one"], StoppedError)
    assert found["two"] == 2
    desk.stop("one")  # nobody asks now
    assert len(desk.ask(photo, "a", "why?", ["hero"], 20, "one")[1].answers) == 2
