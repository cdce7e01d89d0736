"""A tiny random model in a folder, and the command line in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from saved import Cli, save
from typer.testing import CliRunner

from herovlm.cli.main import app


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny LLaVA-NeXT with its CLIP."""
    return save(tiny.make(), tmp_path_factory.mktemp("next"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of four tiles with padding."""
    tiny.picture(100, 80).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run `herovlm` with some words in an empty directory; answers are timed once."""
    monkeypatch.setattr("herovlm.cli.session.RUNS", 1)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def run(*words: object) -> object:
        return runner.invoke(app, [str(word) for word in words])

    return run
