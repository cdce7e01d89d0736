"""Wrong use ends with exit code 2, failure with 1: one clear sentence, no traceback, no half file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import tiny
from files import bomb
from saved import Cli, save

QUESTION = "what is it?"


def refused(result: object, code: int, *says: str) -> None:
    """One sentence on stderr, nothing on stdout."""
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if not line.endswith(" ...")]
    assert len(lines) == 1
    assert lines[0].startswith("herovlm: ")
    for words in says:
        assert words in lines[0]


BROKEN = {
    "text.png": (b"I am no picture", "not a picture"),
    "empty.png": (b"", "0 bytes"),
    "cut.png": (None, "broken or cut off"),
    "bomb.png": (None, "pixels"),
}


@pytest.mark.parametrize("command", ["ask", "compare"])
@pytest.mark.parametrize("name", [*BROKEN, "none.png", "."])
def test_what_is_no_picture(cli: Cli, tmp_path: Path, command: str, name: str) -> None:
    content, says = BROKEN.get(name, (None, "no file" if name == "none.png" else "directory"))
    if content is not None:
        (tmp_path / name).write_bytes(content)
    elif name == "cut.png":
        tiny.picture(64, 64).save(tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:500])
    elif name == "bomb.png":
        bomb(tmp_path / name, 30_000, 30_000)
    refused(cli(command, name, QUESTION, "--html", "a.html"), 2, name, says)
    assert not (tmp_path / "a.html").exists()


@pytest.mark.parametrize("command", ["ask", "compare"])
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("",), "question is empty"),
        ((" \t ",), "question is empty"),
        ((QUESTION, "--clip", "none"), "no folder none"),
        ((QUESTION, "--keep", "0"), "--keep 0"),
        ((QUESTION, "--keep", "1.5"), "--keep 1.5"),
        ((QUESTION, "--keep", "150"), "--tokens 150"),
        ((QUESTION, "--tokens", "0"), "keeps nothing"),
        ((QUESTION, "--tokens", "0.2"), "--tokens '0.2'"),
        ((QUESTION, "--keep", "abc"), "--keep 'abc'"),
        ((QUESTION, "--keep", "-0.2"), "--keep -0.2"),
        ((QUESTION, "--method", "heroo"), "did you mean 'hero'?"),
        ((QUESTION, "--method", "hero(alpa=1)"), "did you mean 'alpha'?"),
        ((QUESTION, "--method", "hero(alpha=7)"), "alpha"),
        ((QUESTION, "--method", "import os"), "spec"),
        ((QUESTION, "--html", "."), "not a file"),
        ((QUESTION, "--html", "none/a.html"), "no directory"),
        ((QUESTION, "--html", "photo.png"), "another name"),
        ((QUESTION, "--html", "-"), "a page is not printed"),
        ((QUESTION, "--model", ""), "--model is empty"),
        ((QUESTION, "--clip", " "), "--clip is empty"),
        ((QUESTION, "--method", f"random(seed={10**30})"), "seed"),
        ((QUESTION, "--model", "demmo"), "did you mean 'demo'"),
        ((QUESTION, "--model", "none/such"), "--download"),
        ((QUESTION, "--model", "./none"), "not the folder of a model"),
        ((QUESTION, "--model", "photo.png"), "not the folder of a model"),
    ],
)
def test_wrong_use(cli: Cli, photo: Path, command: str, words: tuple[str, ...], says: str) -> None:
    if command == "compare":
        words = tuple("--methods" if word == "--method" else word for word in words)
    before = photo.read_bytes()
    refused(cli(command, photo.name, *words), 2, says)
    assert photo.read_bytes() == before
    assert [x.name for x in photo.parent.iterdir()] == ["photo.png"]


def test_the_question_is_missing(cli: Cli, photo: Path) -> None:
    refused(cli("ask", photo), 2, "the question is missing")
    refused(cli("ask", photo, photo), 2, "the question is missing")
    refused(cli("ask", "why?"), 2, "the picture is missing")
    refused(cli("compare", photo, photo), 2, "the question is missing")


@pytest.mark.parametrize(
    "words", [("ask",), ("compare", "a.png"), ("nonsense",), ("ask", "--no-such"), ("demo", "--seed", "x")]
)
def test_words_that_are_no_command(cli: Cli, words: tuple[str, ...]) -> None:
    result = cli(*words)
    assert result.exit_code == 2
    assert "Usage" in result.stderr
    assert result.stdout == ""


def test_a_question_longer_than_the_model_reads(cli: Cli, folder: Path, photo: Path) -> None:
    words = ("ask", photo, "why " * 10_000, "--model", folder, "--html", "a.html")
    refused(cli(*words), 2, "2,048", "shorter question")
    assert not (photo.parent / "a.html").exists()


def test_a_question_with_a_placeholder(cli: Cli, folder: Path, photo: Path) -> None:
    refused(cli("ask", photo, "what is <image>?", "--model", folder), 2, "'<image>'", "another way")


def test_a_budget_too_small_for_the_method(cli: Cli, folder: Path, photo: Path) -> None:
    words = ("--model", folder, "--method", "hero(variant='official', alpha=1)", "--keep", "0.001")
    refused(cli("ask", photo, QUESTION, *words), 2, "keep")


@pytest.mark.parametrize("family", ["llama", "paligemma"])
def test_a_model_of_another_family(cli: Cli, photo: Path, tmp_path: Path, family: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": family}))
    refused(cli("ask", photo, QUESTION, "--model", "other"), 2, repr(family), "llava_next", "llava")


def test_a_folder_that_holds_no_model(cli: Cli, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(cli("ask", photo, QUESTION, "--model", "empty"), 1, "empty", "config.json")
    (tmp_path / "empty" / "config.json").write_text("{ not json")
    refused(cli("ask", photo, QUESTION, "--model", "empty"), 1, "empty", "config.json")


@pytest.mark.parametrize("gone", ["model.safetensors", "tokenizer.json", "processor_config.json"])
def test_a_model_with_a_file_missing(cli: Cli, photo: Path, tmp_path: Path, gone: str) -> None:
    folder = save(tiny.make(), tmp_path / "part")
    (folder / gone).unlink()
    refused(cli("ask", photo, QUESTION, "--model", folder), 1, "cannot be loaded")


def test_a_model_with_broken_weights(cli: Cli, photo: Path, tmp_path: Path) -> None:
    folder = save(tiny.make(), tmp_path / "part")
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    refused(cli("ask", photo, QUESTION, "--model", folder), 1, "cannot be loaded")


def test_weights_that_are_not_there_are_never_made_up(cli: Cli, photo: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save(tiny.make(), tmp_path / "part")
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if "q_proj" in name and "language" in name))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(cli("ask", photo, QUESTION, "--model", folder), 1, "lacks 1 weights", "q_proj")


def test_a_missing_text_tower_names_the_ways_out(cli: Cli, photo: Path, folder: Path, tmp_path: Path) -> None:
    bare = save(tiny.make(), tmp_path / "bare", clip=False)
    words = ("ask", photo, QUESTION, "--model", bare, "--max-new-tokens", 1)
    refused(cli(*words, "--html", "a.html"), 1, "--clip FOLDER", "hero(alpha=1)")
    assert not (tmp_path / "a.html").exists()
    assert cli(*words, "--method", "hero(alpha=1)").exit_code == 0
    assert cli(*words, "--clip", folder / "clip").exit_code == 0
    refused(cli(*words, "--clip", "none/such"), 1, "none/such")


def test_a_disk_that_cannot_be_written(cli: Cli, photo: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "a.html")

    monkeypatch.setattr("os.replace", full)
    words = ("ask", photo, QUESTION, "--model", folder, "--max-new-tokens", 1, "--html", "a.html")
    refused(cli(*words), 1, "a.html", "No space left")
    assert [x.name for x in photo.parent.iterdir()] == ["photo.png"]


def test_a_fault_of_ours_is_one_sentence_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[str]:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr("herovlm.registry.methods", broken)
    result = cli("methods")
    refused(result, 1, "ZeroDivisionError", "first line", "HEROVLM_DEBUG")
    assert "second line" not in result.stderr
    monkeypatch.setenv("HEROVLM_DEBUG", "1")
    assert isinstance(cli("methods").exception, ZeroDivisionError)


def test_a_zip_is_no_picture(cli: Cli, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.png", "w") as archive:
        archive.writestr("x", "y")
    refused(cli("ask", "a.png", QUESTION), 2, "not a picture")
