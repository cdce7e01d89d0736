"""A run that is ended at any moment goes on: nothing is lost, nothing is there twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import boards
import pytest
from tree import need_demo_model

from herovlm.errors import UsageError
from herovlm.eval import records

FILE = "records-0-of-1.jsonl"


def group(picture: str, model: str = "m") -> dict[str, object]:
    return {"model": model, "task": "t", "split": "s", "picture": picture}


def fill(folder: Path, pictures: list[str], part: int = 0, parts: int = 1) -> None:
    records.agree(folder, {"settings": {"seed": 0}})
    with records.writing(folder, part, parts) as writer:
        for picture in pictures:
            if records.group_of(group(picture)) not in writer.done:
                lines = [{**group(picture), "answer": f"{picture} says é\u2028{n}"} for n in range(3)]
                writer.write(lines, {**group(picture), "done": 3})


def test_a_file_cut_at_any_byte_is_made_whole(tmp_path: Path) -> None:
    fill(tmp_path / "whole", ["a", "b", "c"])
    whole = (tmp_path / "whole" / FILE).read_bytes()
    for end in range(len(whole)):
        folder = tmp_path / "cut"
        folder.mkdir(exist_ok=True)
        (folder / records.META).write_bytes((tmp_path / "whole" / records.META).read_bytes())
        (folder / FILE).write_bytes(whole[:end])
        lines, closing = records.read(folder)
        assert len(lines) == 3 * len(closing) == 3 * whole[:end].count(b'"done"') or whole[end - 1 : end] != b"\n"
        fill(folder, ["a", "b", "c"])
        assert (folder / FILE).read_bytes() == whole


def test_a_broken_line_and_all_behind_it_are_asked_again(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b", "c"])
    whole = (tmp_path / FILE).read_bytes()
    lines = whole.splitlines(keepends=True)
    lines[5] = b"\x00" * len(lines[5]) + b"\n"  # as a disk that was full may leave it
    (tmp_path / FILE).write_bytes(b"".join(lines))
    assert [end["picture"] for end in records.read(tmp_path)[1]] == ["a"]
    fill(tmp_path, ["a", "b", "c"])
    assert (tmp_path / FILE).read_bytes() == whole


def test_whoever_did_it_it_is_done(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "c"], 0, 2)
    fill(tmp_path, ["a", "b", "c", "d"])
    lines, closing = records.read(tmp_path)
    assert sorted(end["picture"] for end in closing) == ["a", "b", "c", "d"]
    assert len(lines) == 12
    (tmp_path / "records-7-of-9.jsonl").write_bytes((tmp_path / FILE).read_bytes())
    assert len(records.read(tmp_path)[0]) == 12, "what is there twice counts once"


def test_one_process_a_part(tmp_path: Path) -> None:
    fill(tmp_path, ["a"])
    with records.writing(tmp_path, 0, 1):
        with records.writing(tmp_path, 1, 2):
            pass
        with pytest.raises(UsageError, match="another process is writing part 0/1"), records.writing(tmp_path, 0, 1):
            pass
    fill(tmp_path, ["b"])
    assert len(records.read(tmp_path)[1]) == 2


FACTS = {"settings": {"seed": 0, "limit": None, "tasks": [{"name": "a"}, {"name": "b"}]}, "machine": "x"}


def changed(**settings: object) -> dict[str, object]:
    return {**FACTS, "settings": {**FACTS["settings"], **settings}}


def test_a_folder_is_one_run(tmp_path: Path) -> None:
    records.agree(tmp_path, changed(seed=7), commit="zero")
    records.agree(tmp_path, FACTS, commit="one")  # nothing had been asked yet
    with records.writing(tmp_path, 0, 1) as writer:
        records.agree(tmp_path, {"model demo": {"dtype": "float32"}})
        for begun in range(2):
            records.agree(tmp_path, FACTS, commit="two")
            wanted = {"commit": "one", **FACTS, "model demo": {"dtype": "float32"}}
            assert records.meta(tmp_path) == wanted
            for facts, says in (
                (changed(seed=1), "settings: seed 0, and this one has 1;"),
                (changed(limit=5), "settings: limit null, and this one has 5;"),
                (changed(tasks=[{"name": "a"}]), "settings: tasks "),
                (changed(tasks=[{"name": "a"}, {"name": "c"}]), 'settings: tasks: name "b", and this one has "c";'),
                ({**FACTS, "machine": "y"}, 'machine "x"'),
                ({"model demo": {"dtype": "float16"}}, 'model demo: dtype "float32"'),
            ):
                with pytest.raises(UsageError, match=f"holds a run with {says}.*give another --out"):
                    records.agree(tmp_path, facts)
            assert records.meta(tmp_path) == wanted
            if not begun:
                writer.write([], {**group("a"), "done": 0})


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no meta\.json"):
        records.meta(tmp_path)
    (tmp_path / FILE).write_text("{}\n")
    with pytest.raises(UsageError, match=r"no meta\.json"):
        records.agree(tmp_path, {"settings": {}})
    with pytest.raises(UsageError, match="cannot write to"):
        records.agree(tmp_path / FILE / "below", {"settings": {}})
    (tmp_path / records.META).write_text("{")
    with pytest.raises(UsageError, match="broken"):
        records.meta(tmp_path)


def test_a_killed_process_loses_and_doubles_nothing(tmp_path: Path) -> None:
    need_demo_model()
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, boards.__file__, str(killed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if "picture 3" in line:
                child.kill()  # SIGKILL, in the middle of the third picture
                break
    assert child.returncode == -9
    before = (killed / FILE).read_bytes()
    assert before.count(b'"done"') == 2
    (killed / FILE).write_bytes(before + b'{"model": "demo", "task": "bo')  # a torn line of the third
    boards.go(killed)
    boards.go(whole)
    assert (killed / FILE).read_bytes().startswith(before), "what was done is not done again"
    after, wanted = ([boards.timeless(r) for r in records.read(folder)[0]] for folder in (killed, whole))
    assert after == wanted
    assert len(wanted) == len({json.dumps([r["sample"], r["method"], r["keep"]]) for r in wanted}) == 48
    lines = (killed / FILE).read_text("utf-8").splitlines()
    assert len(lines) == 48 + 4
