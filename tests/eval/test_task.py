"""Tasks: what is read, and what is said of what cannot be."""

from __future__ import annotations

from pathlib import Path

import boards
import pytest
import yaml

from herovlm.errors import UsageError
from herovlm.eval import task

GOOD = {"name": "mine", "version": 2, "source": "me", "metric": "anls", "splits": {"b": "b.jsonl", "a": "a.jsonl"}}


def saved(folder: Path, **changed: object) -> str:
    given = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    (folder / "mine.yaml").write_text(yaml.safe_dump(given, sort_keys=False), "utf-8")
    return str(folder / "mine.yaml")


def test_every_bundled_task_is_whole() -> None:
    assert "board" in task.bundled()
    for name in task.bundled():
        assert task.load(name).name == name


def test_a_task_of_ones_own(tmp_path: Path) -> None:
    found = task.load(saved(tmp_path, prompt="{question} Briefly."))
    assert (found.name, found.version, found.metric, found.prompt) == ("mine", 2, "anls", "{question} Briefly.")
    assert found.where(None) == ("b", str(tmp_path / "b.jsonl")), "the first split, beside the task"
    assert found.where("a") == ("a", str(tmp_path / "a.jsonl"))
    with pytest.raises(UsageError, match="no split 'c'"):
        found.where("c")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"metrics": "anls"}, "unknown key 'metrics'; did you mean 'metric'"),
        ({"metric": "anl"}, "did you mean 'anls'"),
        ({"metric": None, "source": None}, "lacks source, metric"),
        ({"version": "two"}, "version must be a whole number"),
        ({"prompt": "Why?"}, "no place for the question"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"splits": {}}, "splits must map"),
        ({"splits": ["a.jsonl"]}, "splits must map"),
        ({"splits": {"a": ["a.jsonl"]}}, "splits must map names to JSONL files"),
        ({"splits": {"a": {"b": "c"}}}, "splits must map names to JSONL files"),
        ({"splits": {1: "a.jsonl"}}, "splits must map names to JSONL files"),
        ({"metric": ["anls"]}, "metric must be text"),
        ({"about": {"a": 1}}, "about must be text"),
        ({"version": True}, "version must be a whole number"),
        ({"name": "\ud800"}, "half of a sign"),
        ({"source": "x" * 200_000}, "too many for a task"),
    ],
)
def test_a_task_that_is_wrong(tmp_path: Path, changed: dict[str, object], says: str) -> None:
    path = saved(tmp_path, **changed)
    with pytest.raises(UsageError, match=says) as error:
        task.load(path)
    assert path in str(error.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "a: b: c", "!!python/object:os.system {}", "\0"])
def test_a_file_that_is_no_task(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"mine\.yaml"):
        task.load(str(tmp_path / "mine.yaml"))


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{','.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


TAGS = ("int", "float", "bool", "timestamp")  # of values that no such text has


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, "aliases"),
        (MERGED, "aliases"),
        (BOMB.replace("i: &i", "name: &i"), "aliases"),
        ("name: " + "[" * 5000, "values within values"),
        ("{a: " * 5000, "values within values"),
        ("name: t\nversion: " + "9" * 5000, "not a YAML file"),
        ("name: 2001-99-99", "not a YAML file"),
        *((f'name: !!{tag} "{text}"', "not a YAML file") for tag in TAGS for text in ("", "x", "-")),
        ("? [a, b]\n: c", "not a YAML file|unknown key"),
        ("? " + "k" * 5000 + "\n: c", "unknown key"),
    ],
)
def test_a_file_that_is_a_trap_is_refused_quickly(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "mine.yaml").write_text(text, "utf-8")
    with pytest.raises(UsageError, match=says) as error:
        task.load(str(tmp_path / "mine.yaml"))
    assert len(str(error.value)) < 1000


def test_a_task_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = Path(saved(tmp_path))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert task.load(str(path)).name == "mine"


@pytest.mark.parametrize("told", ["", " ", "x" * 5000, "~nobody-of-this-name/a.yaml", "a\nb"])
def test_names_that_no_task_can_have(told: str) -> None:
    with pytest.raises(UsageError, match="there is no task") as error:
        task.load(told, "anls")
    assert len(str(error.value)) < 500


def test_a_file_of_questions_and_its_folder(tmp_path: Path) -> None:
    path = boards.written(tmp_path / "boards.jsonl", [{}])
    for told in (path, tmp_path):
        found = task.load(str(told), "anls")
        assert (found.name, found.metric, found.where(None)) == ("boards", "anls", ("all", str(path)))
        with pytest.raises(UsageError, match="add --metric exact_match"):
            task.load(str(told))
    boards.written(tmp_path / "more.jsonl", [{}])
    with pytest.raises(UsageError, match=r"boards\.jsonl, more\.jsonl"):
        task.load(str(tmp_path), "anls")


@pytest.mark.parametrize(
    ("told", "says"), [("bord", "did you mean 'board'"), (__file__, "neither"), ("none/a", "no task")]
)
def test_what_is_no_task(told: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        task.load(told, "anls")
