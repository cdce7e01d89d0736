"""The only folder that the page reads and writes: users' pictures come, leave after an hour, and outlive no server."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, NoReturn

from herovlm.extras import require

try:
    import fcntl
except ImportError:  # Windows has no such locks: what a killed server left stays until its owner removes it
    fcntl = None  # type: ignore[assignment]

PREFIX = "herovlm-app-"
EXAMPLES = "examples"  # in the folder: they stay
AGE = 3600  # seconds that a user's picture stays
FILES, BYTES = 200, 500_000_000  # of all users together
ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # told to end, terminal gone


@contextmanager
def own_folder() -> Iterator[Path]:
    """Make the folder, removed at the end however the process is told to end, and keep Gradio from phoning home.

    What a server that was killed has left is removed first.

    Raises:
        MissingExtraError: Gradio is not installed.
    """
    with ExitStack() as stack:
        stack.enter_context(_ended_tidily())
        _remove_stale(Path(gettempdir()))
        folder = Path(stack.enter_context(TemporaryDirectory(prefix=PREFIX)))
        stack.enter_context(_locked(folder))
        os.environ |= {"GRADIO_TEMP_DIR": str(folder), "GRADIO_ANALYTICS_ENABLED": "False"}
        os.environ["GRADIO_MCP_SERVER"] = "False"
        require("gradio", extra="app")  # reads these when it is imported
        yield folder


def make_room(folder: Path, coming: int = 0) -> None:
    """Remove users' pictures that are too old, and the oldest of the others where there are too many.

    Args:
        folder: where they lie; what is in its `EXAMPLES` stays.
        coming: bytes of a picture that shall have room, too.
    """
    now, files, total = time.time(), 0, coming
    for path, about in sorted(_pictures(folder), key=lambda pair: pair[1].st_mtime, reverse=True):
        files, total = files + 1, total + about.st_size
        if now - about.st_mtime > AGE or files >= FILES or total > BYTES:
            with suppress(OSError):  # somebody else was faster
                path.unlink()
                path.parent.rmdir()


def _pictures(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file() and not path.is_relative_to(folder / EXAMPLES):
                yield path, path.stat()


@contextmanager
def _ended_tidily() -> Iterator[None]:
    """Let the process unwind, as Ctrl-C does, when it is told to end or its terminal closes; not so under nohup."""
    before: dict[int, Any] = {one: signal.getsignal(one) for one in ENDS}
    heard = [one for one, what in before.items() if what is not signal.SIG_IGN]

    def end(_number: int, _frame: object) -> NoReturn:
        for one in heard:  # once is enough: nothing disturbs the removal
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    for one in heard:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one in heard:
            signal.signal(one, before[one])


def _remove_stale(root: Path) -> None:
    """Remove folders that nobody holds; an empty one may be of a server that is just starting."""
    for old in root.glob(f"{PREFIX}*"):
        with suppress(OSError), _locked(old) as ours:
            if ours and any(old.iterdir()):
                shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold a folder, and say whether that could be done; the system lets go of it when the process dies."""
    if fcntl is None:
        yield False
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
