"""`herovlm study` as a user types it: a tiny model, and pictures of which nobody knows what stands in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from saved import Cli, save
from typer.testing import CliRunner

from herovlm.cli.main import app
from herovlm.cli.study import findings_of
from herovlm.errors import UsageError


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["study", *map(str, words)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two pictures with two questions each."""
    rows = []
    for name, size in (("a.png", (100, 80)), ("b.png", (60, 60))):
        tiny.picture(*size).save(tmp_path / name)
        rows += [{"image": name, "question": question, "answer": "a"} for question in ("Hi?", "Green?")]
    (tmp_path / "photos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return tmp_path / "photos.jsonl"


def test_any_model_and_pictures(cli: Cli, photos: Path, tmp_path: Path) -> None:
    model = save(tiny.make(), tmp_path / "model")
    done = cli("--model", model, "--task", photos, "--out", "made")
    assert done.exit_code == 0, done.output
    for title in ("Tiles differ in importance: ", "CLS attention has two stages: ", "complementary roles: "):
        assert title in done.stdout
    html = (tmp_path / "made/report.html").read_text("utf-8")
    assert "The foreground of these pictures is not known" in html
    assert "There are no probes" in html
    found = json.loads((tmp_path / "made/study.json").read_text("utf-8"))["findings"]
    assert found["tiles"]["questions"] == 4
    assert found["roles"]["probes"] == {}
    assert "foreground" not in found["attention"]["stages"]
    assert not (tmp_path / "made/roles-probes.png").exists()


def test_what_cannot_be_measured_ends_no_study(
    cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, good = save(tiny.make(), tmp_path / "model"), (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(good[:200])
    words = ("--model", model, "--task", photos, "--out", "made")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("sizes should be greater than 0")

    with monkeypatch.context() as patch:
        patch.setattr("herovlm.study.measure.roles.measure", fail)
        done = cli(*words)
    assert done.exit_code == 3, done.output
    assert "b.png is broken or cut off" in done.stderr
    assert "complementary roles: " in done.stdout
    found = json.loads((tmp_path / "made/study.json").read_text("utf-8"))
    assert found["findings"]["tiles"]["pictures"] == 1
    assert found["failed"]["roles, picture a.png"] == "RuntimeError: sizes should be greater than 0"
    (tmp_path / "b.png").write_bytes(good)
    assert cli(*words).exit_code == 0
    assert json.loads((tmp_path / "made/study.json").read_text("utf-8"))["failed"] == {}


def test_a_study_of_nothing_but_failures_says_why(cli: Cli, photos: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no picture")
    done = cli("--model", save(tiny.make(), tmp_path / "model"), "--task", photos, "--out", "made")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "nothing could be measured: attention, picture a.png" in done.stderr


def test_json_is_all_that_is_printed(cli: Cli, photos: Path, tmp_path: Path) -> None:
    model = save(tiny.make(), tmp_path / "model")
    done = cli("--model", model, "--task", photos, "--findings", "1", "--limit", 1, "--json", "--out", "made")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert list(found["findings"]) == ["tiles"]
    assert (found["findings"]["tiles"]["pictures"], found["out"]) == (1, "made")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--findings", "4"), "--findings '4' is unknown"),
        (("--findings", ""), "give 1 (tiles)"),
        (("--task", "baord"), "did you mean 'board'"),
        (("--split", "test"), "no split 'test'"),
    ],
)
def test_wrong_use_is_told(cli: Cli, words: tuple[str, ...], told: str) -> None:
    done = cli(*words)
    assert done.exit_code == 2
    assert told in done.stderr
    assert "Traceback" not in done.output


def test_findings_are_read() -> None:
    assert findings_of("3, 1,3") == [1, 3]
    with pytest.raises(UsageError):
        findings_of("1;2")
