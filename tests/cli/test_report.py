"""`herovlm report`: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tiny
from saved import Cli


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
    assert "pip install 'herovlm[eval]'" in refused.stderr
    assert not (tmp_path / "report").exists()


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
