"""Questions come picture by picture, whole, in an order that a seed fixes."""

from __future__ import annotations

import json
from pathlib import Path

import boards
import pytest

from herovlm.demo import scenes
from herovlm.errors import PictureError, UsageError
from herovlm.eval import samples, task

ONE = {"image": "a.png", "question": "What?", "answer": "that"}


def names(limit: int | None = None, seed: int | None = None) -> list[str]:
    return [picture.name for picture in samples.asked(task.load("board"), limit=limit, seed=seed).pictures]


def test_the_boards_are_those_of_the_split() -> None:
    assert names() == [str(seed) for seed in scenes.SPLITS["held-out"]]
    asked = samples.asked(task.load("board"), "development", limit=1)
    image, found = asked.pictures[0].read()
    scene = scenes.make(scenes.SPLITS["development"][0])
    assert image.tobytes() == scene.image.tobytes()
    assert [(s.question, s.answers, s.kind) for s in found] == [(q.text, (q.answer,), q.kind) for q in scene.questions]


def test_a_seed_fixes_the_order_and_a_limit_takes_the_first() -> None:
    assert names(5) == names()[:5]
    assert names(5, seed=3) == names(seed=3)[:5] != names(5, seed=4)
    assert sorted(names(seed=3)) == sorted(names())


def test_parts_share_the_pictures() -> None:
    pictures = samples.asked(task.load("board"), limit=7).pictures
    parts = [samples.part_of(pictures, n, 3) for n in range(3)]
    assert sorted(p.name for part in parts for p in part) == sorted(p.name for p in pictures)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_questions_about_one_file_come_together(tmp_path: Path) -> None:
    path = boards.local(tmp_path)
    shuffled = path.read_text().splitlines(keepends=True)[::-1]
    boards.written(path, shuffled)
    asked = samples.asked(task.load(str(path), "exact_match"))
    assert [picture.name for picture in asked.pictures] == ["1.png", "0.png"]
    for picture in asked.pictures:
        scene = scenes.make(int(picture.name[0]))
        image, found = picture.read()
        assert image.tobytes() == scene.image.tobytes()
        assert [(s.question, s.answers[0], s.kind) for s in found[::-1]] == [
            (q.text, q.answer, q.kind) for q in scene.questions
        ]


def test_the_data_are_known_by_their_content(tmp_path: Path) -> None:
    path = boards.local(tmp_path)
    first = samples.asked(task.load(str(path), "anls")).data
    assert samples.asked(task.load(str(path), "exact_match")).data == first
    boards.written(path, path.read_text().splitlines(keepends=True)[1:])
    assert samples.asked(task.load(str(path), "anls")).data != first


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "no questions"),
        (["\n", " \n"], "no questions"),
        ([ONE, "{\n"], "line 2: not JSON"),
        (["[1]\n"], "line 1: not an object"),
        ([{**ONE, "image": "b.png"}], "line 1: there is no picture .*b.png"),
        ([{**ONE, "question": " "}], "'question' is missing"),
        ([{"question": "What?", "answer": "that"}], "'image' is missing"),
        ([{"image": "a.png", "question": "What?"}], "give 'answer'"),
        ([{**ONE, "answers": ["that"]}], "give 'answer'"),
        ([{**ONE, "answer": True}], "texts or numbers"),
        ([{"image": "a.png", "question": "What?", "answers": []}], "at least one"),
        ([{**ONE, "question": "half \ud83d of it"}], "line 1: half of a sign"),
        ([{"image": "a.png", "question": "?", "answers": ["ok", "\udc80"]}], "line 1: half of a sign"),
        (["[" * 100_000 + "\n"], "line 1: (not JSON|values within values)"),
        (['{"a": ' * 100_000 + "\n"], "line 1: (not JSON|values within values)"),
        ([{**ONE, "image": "x" * 5000}], "line 1: there is no picture"),
        ([{**ONE, "image": "a\0.png"}], "line 1: there is no picture"),
        (['{"image": "a.png", "question": "?", "answer": NaN}\n'], "NaN and Infinity"),
        (['{"image": "a.png", "question": "?", "answer": 1e999}\n'], "NaN and Infinity"),
        ([{**ONE, "kind": ["a"]}], "'kind' must be a text"),
        ([{**ONE, "id": {"a": 1}}], "'id' must be a text"),
        ([{**ONE, "id": None}], "'id' must be a text"),
        ([{**ONE, "id": 7}, ONE, {**ONE, "id": "7"}], "line 3: the id '7' is there twice"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, lines: list[object], says: str) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    path = boards.written(tmp_path / "q.jsonl", lines)
    with pytest.raises(UsageError, match=says):
        samples.asked(task.load(str(path), "anls"))


def test_answers_that_a_metric_cannot_judge(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    path = boards.written(tmp_path / "q.jsonl", [{**ONE, "answer": "Yes"}, ONE])
    with pytest.raises(UsageError, match="line 2: pope_f1 knows the answers yes and no, not 'that'"):
        samples.asked(task.load(str(path), "pope_f1"))


def test_numbers_are_answers_and_files_are_read_when_their_turn_comes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    path = boards.written(
        tmp_path / "q.jsonl", [{"image": "a.png", "question": "What?", "answers": [4, 4.5, "é\u2028"]}]
    )
    path.write_bytes(b"\n" + json.dumps(json.loads(path.read_text()), ensure_ascii=False).encode())
    (picture,) = samples.asked(task.load(str(path), "anls")).pictures
    assert picture.read.args[1][0].answers == ("4", "4.5", "é\u2028")
    with pytest.raises(PictureError, match=r"a\.png"):
        picture.read()


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """As Notepad and Excel write it."""
    (tmp_path / "a.png").write_bytes(b"")
    path = boards.written(tmp_path / "q.jsonl", [ONE])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert [picture.name for picture in samples.asked(task.load(str(path), "anls")).pictures] == ["a.png"]


def test_a_file_that_is_missing_or_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(
        "{name: t, version: 1, source: s, metric: anls, splits: {a: none.jsonl, b: b.jsonl}}"
    )
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe")
    for split, says in (("a", "cannot be read"), ("b", "not UTF-8")):
        with pytest.raises(UsageError, match=says):
            samples.asked(task.load(str(tmp_path / "t.yaml")), split)


@pytest.mark.parametrize("where", ["none.jsonl", ".", "/dev/zero", "/dev/stdin", "a\0b", "a" * 5000])
def test_a_split_that_is_no_file(tmp_path: Path, where: str) -> None:
    what = {"name": "t", "version": 1, "source": "s", "metric": "exact_match"}
    with pytest.raises(UsageError, match=r"cannot be read \(no file\)"):
        samples.asked(task.Task(**what, splits={"all": str(tmp_path / where)}))  # type: ignore[arg-type]
