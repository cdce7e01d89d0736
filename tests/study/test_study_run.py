"""A study that is killed goes on where it was, one that grows keeps what it has; its page needs nothing beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from herovlm.demo import load, scenes
from herovlm.errors import UsageError
from herovlm.eval import records, samples, task
from herovlm.study import page, tables
from herovlm.study.run import FINDINGS, Study
from herovlm.study.summary.whole import summarise

Step = Callable[[str], None]


class Killed(BaseException):
    """The process ends here."""


def study(limit: int = 2, **more: Any) -> Study:
    return Study(asked=samples.asked(task.load("board")), name="demo", load=load, limit=limit, **more)


def killed_at(number: int) -> Step:
    """A step that ends the study before its `number`-th piece of work, counted from 1."""
    told: list[str] = []

    def step(text: str) -> None:
        told.append(text)
        if len(told) == number:
            raise Killed

    return step


def lines(folder: Path) -> list[str]:
    return (folder / "records-0-of-1.jsonl").read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two pictures, all of it."""
    folder = tmp_path_factory.mktemp("whole")
    told: list[str] = []
    study().go(folder, told.append)
    assert len(told) == study().steps == 7
    return folder


def test_every_finding_has_records_of_every_picture(whole: Path) -> None:
    found, closing = records.read(whole)
    done = {(end["task"], end["picture"]) for end in closing}
    assert done == {(name, picture) for name in FINDINGS.values() for picture in "01"} | {("probes", "first 8")}
    count = {name: sum(line["task"] == name for line in found) for name in FINDINGS.values()}
    questions = sum(len(scenes.make(seed).questions) for seed in (0, 1))
    assert count == {"tiles": questions, "attention": 2, "roles": questions}


def test_a_killed_study_goes_on(whole: Path, tmp_path: Path) -> None:
    loaded: list[int] = []

    def count() -> Any:
        loaded.append(1)
        return load()

    first = Study(asked=study().asked, name="demo", load=count, limit=2)
    for step in (3, 6):
        with pytest.raises(Killed):
            first.go(tmp_path, killed_at(step))
        file = tmp_path / "records-0-of-1.jsonl"
        file.write_bytes(file.read_bytes() + b'{"task": "roles", "pict')  # it was writing when it was killed
    first.go(tmp_path)
    assert lines(tmp_path) == lines(whole)
    first.go(tmp_path)
    assert lines(tmp_path) == lines(whole)
    assert len(loaded) == 3, "where nothing is left to do, no model is loaded"


def test_findings_can_be_added(whole: Path, tmp_path: Path) -> None:
    study(findings=[2]).go(tmp_path)
    assert {json.loads(line)["task"] for line in lines(tmp_path)} == {"attention"}
    assert lines(tmp_path) == [line for line in lines(whole) if json.loads(line)["task"] == "attention"]
    before = lines(tmp_path)
    study(3, findings=[2]).go(tmp_path)
    assert lines(tmp_path)[: len(before)] == before
    assert len(lines(tmp_path)) == len(before) + 2, "a record of the third picture, and the line that closes it"
    assert {json.loads(line)["picture"] for line in lines(tmp_path)} == {"0", "1", "2"}


def test_another_study_is_refused(whole: Path) -> None:
    other = samples.asked(task.load("board"), "development")
    with pytest.raises(UsageError, match="give another --out"):
        Study(asked=other, name="demo", load=load, limit=1).go(whole)


def test_what_is_no_study_is_not_summed_up(tmp_path: Path) -> None:
    records.agree(tmp_path, {"settings": {}})
    with pytest.raises(UsageError, match="no study"):
        summarise(tmp_path, ["tiles"])


def test_the_files_of_a_report(whole: Path, tmp_path: Path) -> None:
    found = summarise(whole, [*FINDINGS.values()])
    assert page.write(found, study().asked, tmp_path) == tmp_path / "report.html"
    names = {path.stem for path in tmp_path.glob("*.png")}
    assert names == {path.stem for path in tmp_path.glob("*.svg")}
    assert {"tiles-correlation", "attention-maps", "attention-overlap", "attention-blocks", "roles-ways"} <= names
    html = (tmp_path / "report.html").read_text("utf-8")
    assert html.count("<svg") == len(names)
    outside = re.findall(r"(?:src|href)=[\"'](?!#|data:)([^\"']+)", html)
    assert outside == ["https://arxiv.org/abs/2509.13067"], "a link, and nothing that is loaded"
    for name, finding in found["findings"].items():
        assert finding["verdict"]["sentence"].split(":")[0] in html
        for table in tables.TABLES[name](finding):
            assert all(len(row) == len(table.columns) for row in table.rows)
    written = json.loads((tmp_path / "study.json").read_text("utf-8"))
    assert written["findings"]["attention"]["suggested"] == found["findings"]["attention"]["suggested"]
    assert "maps" not in written["findings"]["attention"]
    assert written["benchmark"] == "study"


def test_the_same_records_give_the_same_report(whole: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        page.write(summarise(whole, ["roles"]), study().asked, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_one_finding_alone_makes_a_page(whole: Path, tmp_path: Path) -> None:
    for name in FINDINGS.values():
        found = summarise(whole, [name])
        assert list(found["findings"]) == [name]
        page.write(found, study().asked, tmp_path)


@pytest.fixture(autouse=True)
def _threads() -> Any:
    """Leave torch as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
