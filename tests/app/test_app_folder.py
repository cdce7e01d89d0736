"""The folder of the page: examples stay, users' pictures go after an hour, and none outlives its server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from herovlm.app import examples, folder
from herovlm.app.folder import make_room, own_folder
from herovlm.errors import MissingExtraError

HOLD = (
    "import signal, sys; from herovlm.app import folder; folder.require = lambda *_, **__: None\n"
    "for one in folder.ENDS: signal.signal(one, signal.SIG_DFL)  # also where these tests run under nohup\n"
    "with folder.own_folder() as own:\n"
    "    (own / 'mine.png').write_text('mine'); print(own, flush=True); sys.stdin.read()"
)
PATIENCE = 300  # seconds; for a machine that has other things to do


@pytest.fixture
def no_gradio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make folders below `tmp_path`, without Gradio."""
    monkeypatch.setattr(folder, "require", lambda *_, **__: None)
    monkeypatch.setattr(folder, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "GRADIO_MCP_SERVER"):
        monkeypatch.setenv(name, "before")


def put(where: Path, name: str, age: float = 0, size: int = 4) -> Path:
    path = where / name / "picture.png"
    path.parent.mkdir()
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_old_pictures_go_and_examples_stay(tmp_path: Path) -> None:
    drawn = [Path(one.path) for one in examples.draw(tmp_path)]
    for path in drawn:
        os.utime(path, (0, 0))
    old, new = put(tmp_path, "old", age=3700), put(tmp_path, "new", age=3500)
    make_room(tmp_path)
    assert [path.exists() for path in (old, old.parent, new)] == [False, False, True]
    assert all(path.exists() for path in drawn)


def test_the_oldest_make_room_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "FILES", 3)
    pictures = [put(tmp_path, str(age), age) for age in range(5)]
    make_room(tmp_path)
    assert [path.exists() for path in pictures] == [True, True, False, False, False]  # one more is coming


def test_the_oldest_make_room_where_they_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "BYTES", 100)
    pictures = [put(tmp_path, str(age), age, size=30) for age in range(3)]
    make_room(tmp_path, coming=10)
    assert [path.exists() for path in pictures] == [True] * 3
    make_room(tmp_path, coming=11)
    assert [path.exists() for path in pictures] == [True, True, False]


@pytest.mark.usefixtures("no_gradio")
def test_the_folder_is_removed_and_gradio_is_told_of_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with own_folder() as own:
        (own / "upload.png").write_text("mine")
        assert os.environ["GRADIO_TEMP_DIR"] == str(own)
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert not own.exists()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no terminal closes here")
@pytest.mark.parametrize("told", ["SIGTERM", "SIGHUP"])
def test_nothing_is_left_by_whoever_is_told_to_end_at_any_time(tmp_path: Path, told: str) -> None:
    with holding(tmp_path) as (process, own):
        process.send_signal(getattr(signal, told))
        process.wait(PATIENCE)
        assert not own.exists()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no terminal closes here")
@pytest.mark.usefixtures("no_gradio")
def test_under_nohup_a_terminal_that_closes_ends_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with own_folder() as own:
            signal.raise_signal(signal.SIGHUP)
            assert own.exists()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(folder.fcntl is None, reason="no locks that end with a process")
@pytest.mark.usefixtures("no_gradio")
def test_what_a_killed_server_left_goes_at_the_next_start_and_what_a_living_one_holds_stays(tmp_path: Path) -> None:
    with holding(tmp_path) as (killed, left), holding(tmp_path) as (_, held):
        killed.kill()
        killed.wait(PATIENCE)
        assert left.exists()
        with own_folder() as own:
            assert [path.exists() for path in (left, held, own)] == [False, True, True]


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingExtraError, match=r"extra 'app': pip install"), own_folder():
        pass


class holding:
    """A process that holds a folder with a picture in it."""

    def __init__(self, root: Path) -> None:
        env = {**os.environ, "TMPDIR": str(root)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=pipe, stdout=pipe, text=True, env=env)

    def __enter__(self) -> tuple[subprocess.Popen[str], Path]:
        assert self.process.stdout is not None
        return self.process, Path(self.process.stdout.readline().strip())

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
