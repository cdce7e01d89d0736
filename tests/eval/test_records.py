"""A run that is ended at any moment goes on: nothing is lost, nothing is there twice."""

from __future__ import annotations

import io
import json
import re
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


def test_a_file_cut_anywhere_is_made_whole(tmp_path: Path) -> None:
    fill(tmp_path / "whole", ["a", "b", "c"])
    whole = (tmp_path / "whole" / FILE).read_bytes()
    near = {at + step for at, byte in enumerate(whole[:-1]) if byte in b"\n\xa8" for step in (-1, 0, 1, 2)}
    for end in sorted({*range(0, len(whole), 7), *near}):  # around all ends of lines and letters, and in between
        folder = tmp_path / "cut"
        folder.mkdir(exist_ok=True)
        (folder / records.META).write_bytes((tmp_path / "whole" / records.META).read_bytes())
        (folder / FILE).write_bytes(whole[:end])
        lines, closing = records.read(folder)
        assert len(lines) == 3 * len(closing) == 3 * whole[:end].count(b'"done"') or whole[end - 1 : end] != b"\n"
        fill(folder, ["a", "b", "c"])
        assert (folder / FILE).read_bytes() == whole


@pytest.mark.parametrize("at", range(12))
def test_no_record_behind_a_damaged_line_is_thrown_away(tmp_path: Path, at: int) -> None:
    fill(tmp_path, ["a", "b", "c"])
    whole = (tmp_path / FILE).read_bytes()
    lines = whole.splitlines(keepends=True)
    for damage in (b"\x00" * len(lines[at]) + b"\n", lines[at].rstrip() + lines[at], b"[]\n", b'{"done": NaN}\n'):
        damaged = b"".join([*lines[:at], damage, *lines[at + 1 :]])
        (tmp_path / FILE).write_bytes(damaged)
        if at == 11:  # the last line: an unfinished end, which is written anew
            assert [end["picture"] for end in records.read(tmp_path)[1]] == ["a", "b"]
            fill(tmp_path, ["a", "b", "c"])
            assert (tmp_path / FILE).read_bytes() == whole
            continue
        for go in (lambda: records.read(tmp_path), lambda: fill(tmp_path, ["a", "b", "c"])):
            with pytest.raises(UsageError, match=rf"{FILE}, line {at + 1}: damaged.*delete the lines") as told:
                go()
            assert (tmp_path / FILE).read_bytes() == damaged
        first, last = map(int, re.findall(r"lines (\d+) to (\d+)", str(told.value))[0])
        (tmp_path / FILE).write_bytes(b"".join([*lines[: first - 1], *lines[last:]]))
        fill(tmp_path, ["a", "b", "c"])
        assert sorted((tmp_path / FILE).read_bytes().splitlines()) == sorted(whole.splitlines())


def test_lines_that_were_deleted_doubled_or_moved_are_noticed(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b"])
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    for changed, says in (
        (lines[:1] + lines[2:], "lines 1 to 3: 2 records where 3 were written"),
        (lines[:2] + lines[1:], "lines 1 to 5: 4 records where 3 were written"),
        ([lines[4], *lines[1:]], "lines 1 to 4: records of another picture among those of 'a'"),
        (lines[:3] + lines[4:], "lines 1 to 7: records of another picture among those of 'b'"),
        (lines[:4] + lines, "lines 5 to 8: a was answered before"),
        ([*lines[:3], b'{"done": 3, "picture": 4}\n', *lines[4:]], "lines 1 to 4: line that closes a picture without"),
    ):
        (tmp_path / FILE).write_bytes(b"".join(changed))
        with pytest.raises(UsageError, match=says):
            records.read(tmp_path)


def test_what_failed_is_asked_again_and_the_better_counts(tmp_path: Path) -> None:
    records.agree(tmp_path, {"settings": {}})
    ends = [{"failed": {"m@1": "why"}}, {"unusable": "why"}, {"failed": {}}]
    for number, end in enumerate(ends):
        with records.writing(tmp_path, 0, 1) as writer:
            assert records.group_of(group("a")) not in writer.done
            writer.write([{**group("a"), "number": number}], {**group("a"), "done": 1, **end})
        (record,), (closing,) = records.read(tmp_path)
        assert record["number"] == (0, 0, 2)[number]
        assert closing == {**group("a"), "done": 1, **ends[record["number"]]}
    with records.writing(tmp_path, 0, 1) as writer:
        assert records.group_of(group("a")) in writer.done


def test_a_full_disk_is_named_with_the_way_on(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        name = "run/records"

        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device.*same command goes on.*run/records"):
        records.Writer(Full(), {}).write([], {**group("a"), "done": 0})


def test_whoever_did_it_it_is_done(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "c"], 0, 2)
    fill(tmp_path, ["a", "b", "c", "d"])
    lines, closing = records.read(tmp_path)
    assert sorted(end["picture"] for end in closing) == ["a", "b", "c", "d"]
    assert len(lines) == 12
    (tmp_path / "records-7-of-9.jsonl").write_bytes((tmp_path / FILE).read_bytes())
    assert len(records.read(tmp_path)[0]) == 12, "what is there twice counts once"
    copy = (tmp_path / FILE).read_text("utf-8").replace("b says", "b said")
    (tmp_path / "records-7-of-9.jsonl").write_text(copy, "utf-8")
    with pytest.raises(UsageError, match=r"records-7-of-9.jsonl .*b was answered in another way"):
        records.read(tmp_path)


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
