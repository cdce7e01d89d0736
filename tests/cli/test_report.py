"""`herovlm report`: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from saved import Cli
from typer.testing import CliRunner

from herovlm.cli.main import app


@pytest.fixture
def run(cli: Cli, folder: Path, tmp_path: Path) -> Path:
    """A finished run."""
    tiny.picture(60, 31).save(tmp_path / "a.png")
    (tmp_path / "mine.jsonl").write_text('{"image": "a.png", "question": "what?", "answer": "a"}\n')
    what = ("--task", "mine.jsonl", "--metric", "exact_match", "--model", folder, "--max-new-tokens", 1)
    assert cli("eval", *what, "--methods", "hero,random", "--keep", "0.5,0.2", "--out", "run").exit_code == 0
    return tmp_path / "run"


def test_a_page_and_a_summary(cli: Cli, run: Path, tmp_path: Path) -> None:
    result = cli("report", run, "--out", "report", "--json", "summary.json")
    assert result.exit_code == 0, result.stderr
    assert "keep=0.5" in result.stdout
    assert result.stdout.rstrip().endswith("page: report/report.html")
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert summary == json.loads((tmp_path / "report/summary.json").read_text("utf-8"))
    assert summary == json.loads(cli("report", run, "--json", "-").stdout)
    assert {path.suffix for path in (tmp_path / "report").iterdir()} == {
        ".html",
        ".json",
        ".md",
        ".csv",
        ".png",
        ".svg",
    }


def test_a_table_needs_no_extra_and_a_page_says_which(
    cli: Cli, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = cli("report", run)
    assert result.exit_code == 0
    assert "--out FOLDER" in result.stderr
    refused = cli("report", run, "--out", "report")
    assert refused.exit_code == 1
    assert "the extra 'eval': pip install" in refused.stderr
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp932"])
def test_output_need_not_be_utf8(cli: Cli, run: Path, folder: Path, encoding: str) -> None:
    def printed(*words: object) -> str:
        result = CliRunner(charset=encoding).invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, (result.stdout, result.stderr, result.exception)
        return str(result.stdout)

    assert "hero" in printed("report", "run")
    words = ("compare", "a.png", "what is it \N{SNOWMAN}?", "--model", folder, "--max-new-tokens", 1, "--methods")
    assert "hero + fastv(layer=1)" in printed(*words, "hero + fastv(layer=1)")
    (asked,) = json.loads(printed(*words, "random", "--json"))["questions"]
    assert asked["question"] == "what is it \N{SNOWMAN}?"


def changed(run: Path, at: int, **values: object) -> None:
    """Change one record by hand; None takes a value away."""
    file = run / "records-0-of-1.jsonl"
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    lines[at] = {name: value for name, value in {**lines[at], **values}.items() if value is not None}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"score": 1.5}, "a record whose 'score' is 1.5"),
        ({"score": -0.1}, "a record whose 'score' is -0.1"),
        ({"score": "1"}, "a record whose 'score' is '1'"),
        ({"score": True}, "a record whose 'score' is True"),
        ({"score": float("nan")}, "damaged"),
        ({"kept": float("inf")}, "damaged"),
        ({"kept": -1}, "'kept'"),
        ({"kept": 10**400}, "'kept'"),
        ({"kept": 10_000}, "a record that kept 10000 of"),
        ({"of": 10**400}, "'of'"),
        ({"keep": -1}, "'keep'"),
        ({"keep": 10**400}, "'keep'"),
        ({"keep": "much"}, "'keep'"),
        ({"seconds": {"select": -1, "generate": 0}}, "'seconds'"),
        ({"seconds": {"select": 0, "generate": 10**400}}, "'seconds'"),
        ({"of": 0}, "'of'"),
        ({"seconds": {}}, "'seconds'"),
        ({"wanted": []}, "'wanted'"),
        ({"wanted": "a"}, "'wanted'"),
        ({"answer": 5}, "'answer'"),
        ({"method": "random", "keep": 0.5}, "answers '1' twice"),
        ({"picture": "b.png"}, "records of another picture"),
        *[({name: None}, f"a record without {name!r}") for name in ("score", "answer", "kept", "seconds", "keep")],
    ],
)
def test_a_record_that_was_changed_by_hand(cli: Cli, run: Path, values: dict[str, object], says: str) -> None:
    changed(run, 1, **values)
    result = cli("report", "run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert "records-0-of-1.jsonl, line" in result.stderr
    assert "unexpected" not in result.stderr


@pytest.mark.parametrize(
    "values",
    [
        *({"refused": value} for value in ([], "x", {"random@0.5": None})),
        *({"failed": value} for value in ([1], 5, {"random@0.5": 3})),
        *({"seconds": value} for value in ({}, 5, {"vision": "x"}, {"vision": 10**400})),
        {"unusable": 5},
    ],
)
def test_a_closing_line_that_was_changed_by_hand(cli: Cli, run: Path, values: dict[str, object]) -> None:
    at = [b'"done"' in line for line in (run / "records-0-of-1.jsonl").read_bytes().splitlines()].index(True)
    changed(run, at, **values)
    result = cli("report", "run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"a closing line whose {next(iter(values))!r} is" in result.stderr
    assert "records-0-of-1.jsonl, line" in result.stderr


Lines = list[dict[str, Any]]


def by(line: dict[str, Any], method: str) -> bool:
    return line.get("method") == method


def without(lines: Lines, *lost: str) -> Lines:
    """Take all records with one of these values away, and say so in the line that closes them."""
    left = [line for line in lines if not {line.get("method"), line.get("sample")} & {*lost}]
    return [{**line, "done": len(left) - 1} if "done" in line else line for line in left]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: without(lines, "hero"), "no answer of 'hero@0.2'"),
        (lambda lines: without(lines, "hero", "random", "full"), "no answer of 'full@1.0'"),
        (lambda lines: without(lines, lines[0]["sample"]), "answers to 1 of 2 questions"),
        (lambda lines: without(lines[1:]), "9 answers, not 5 x 2"),
        (
            lambda lines: [{**line, "method": "uniform"} if by(line, "hero") else line for line in lines],
            "no answer of 'hero@0.2'",
        ),
        (
            lambda lines: [{**line, "failed": {"hero@0.2": "x"}} if "done" in line else line for line in lines],
            "answers of 'hero@0.2', which",
        ),
        (
            lambda lines: lines + [{**line, "score": 1.0} if "score" in line else line for line in lines],
            "lines 12 to 22: a.png was answered before",
        ),
        (lambda lines: [{**lines[0], "version": 7}, *lines[1:]], "version 7 of the task mine"),
        (lambda lines: [*lines[:-1], {**lines[-1], "version": 7}], "version 7 of the task mine"),
        (lambda lines: [*lines[:-1], {**lines[-1], "unusable": "x"}], "10 records of a picture that could not be used"),
        (lambda lines: [*lines[:-1], {**lines[-1], "questions": 3}], "answers to 2 of 3 questions"),
        (lambda lines: [*lines[:-1], {**lines[-1], "questions": "2"}], "a closing line whose 'questions' is '2'"),
    ],
)
def test_records_that_are_not_what_was_asked(
    cli: Cli, folder: Path, tmp_path: Path, change: Callable[[Lines], Lines], says: str
) -> None:
    tiny.picture(60, 31).save(tmp_path / "a.png")
    (tmp_path / "mine.jsonl").write_text('{"image": "a.png", "question": "what?", "answer": "a"}\n' * 2)
    what = ("--task", "mine.jsonl", "--metric", "exact_match", "--model", folder, "--max-new-tokens", 1)
    assert cli("eval", *what, "--methods", "hero,random", "--keep", "0.5,0.2", "--out", "two").exit_code == 0
    file = tmp_path / "two/records-0-of-1.jsonl"
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in change(lines)), "utf-8")
    result = cli("report", "two")
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert "records-0-of-1.jsonl, line" in result.stderr


def test_numbers_that_json_reads_as_infinite(cli: Cli, run: Path) -> None:
    file = run / "records-0-of-1.jsonl"
    file.write_text(re.sub(r'"kept": \d+', '"kept": 1e999', file.read_text("utf-8"), count=1), "utf-8")
    assert "a record whose 'kept' is inf" in cli("report", "run").stderr


@pytest.mark.parametrize("at", ["versions", "machine", "settings", "model", "tasks", "metric"])
def test_a_meta_file_that_was_changed_by_hand(cli: Cli, run: Path, folder: Path, at: str) -> None:
    meta = json.loads((run / "meta.json").read_text("utf-8"))
    if at in ("tasks", "metric"):
        (meta["settings"] if at == "tasks" else meta["settings"]["tasks"][0]).pop(at)
    else:
        meta.pop(f"model {folder}" if at == "model" else at)
    (run / "meta.json").write_text(json.dumps(meta), "utf-8")
    result = cli("report", "run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is not as 'herovlm eval' has written it" in result.stderr
    for content in ("[]", "null", "{", "[" * 100_000, "5"):
        (run / "meta.json").write_text(content)
        result = cli("report", "run")
        assert result.exit_code == 2, result.stderr
        assert "unexpected" not in result.stderr


def test_the_same_run_twice_is_one(cli: Cli, run: Path) -> None:
    assert cli("report", run, run).stdout == cli("report", run).stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("none",), "not the folder of a run"),
        ((".",), "not the folder of a run"),
        (("run", "none"), "not the folder of a run"),
        (("run", "--json", "none/a.json"), "no directory none"),
        (("run", "--out", "a.png"), "cannot write to a.png"),
    ],
)
@pytest.mark.usefixtures("run")
def test_wrong_use(cli: Cli, words: tuple[str, ...], says: str) -> None:
    result = cli("report", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
