"""The folder of a run: meta.json says what it is, and each process appends records to a JSONL file of its own.

A record is a question under one configuration.  The records of a picture are closed by a line with "done"; what
stands behind the last such line was being written when the process ended, and is cut off when the run goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from herovlm.errors import UsageError

Record = dict[str, Any]
Group = tuple[str, str, str, str]  # model, task, split, picture
META, LOCK = "meta.json", ".lock"


def group_of(line: Mapping[str, Any]) -> Group:
    """Return which picture of which task, and which model, a line of records is about."""
    return line["model"], line["task"], line["split"], line["picture"]


def agree(folder: Path, facts: Mapping[str, Any], **once: Any) -> None:
    """Write facts into meta.json, or check that they are what stands there already; `once` is only ever written.

    As long as there is not one record, facts may change.

    Raises:
        UsageError: they differ, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open("ab") as lock:
            _lock(lock, wait=True)
            begun = any(_begun(path) for path in folder.glob("records-*.jsonl"))
            known = meta(folder) if begun else {}
            for name in facts:
                _check(known.get(name, facts[name]), facts[name], name, folder)
            if not facts.keys() <= known.keys():
                new = folder / f"{META}.new"
                new.write_text(json.dumps({**once, **known, **facts}, indent=2, ensure_ascii=False) + "\n", "utf-8")
                new.replace(folder / META)
    except OSError as error:
        raise UsageError(f"cannot write to {folder} ({error.strerror}); give another --out") from None


def _begun(path: Path) -> bool:
    """Return whether a file has records, or a process that is about to write some."""
    with path.open("ab") as file:
        return file.tell() > 0 or not _lock(file, wait=False)


def _check(old: Any, new: Any, name: str, folder: Path) -> None:
    """Compare what is known with what is said now, down to the first value that differs."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        for key in old:
            _check(old[key], new[key], f"{name}: {key}", folder)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for a, b in zip(old, new, strict=True):
            _check(a, b, name, folder)
    elif old != new:
        old, new = (json.dumps(value, ensure_ascii=False)[:200] for value in (old, new))
        raise UsageError(
            f"{folder} holds a run with {name} {old}, and this one has {new}; give another --out, or the settings of "
            "that run to go on with it"
        )


def meta(folder: Path) -> dict[str, Any]:
    """Read what a run is.

    Raises:
        UsageError: the folder holds no run.
    """
    try:
        found = json.loads((folder / META).read_text("utf-8"))
    except OSError:
        raise UsageError(f"{folder} is not the folder of a run: it has no {META}; 'herovlm eval' makes one") from None
    except ValueError:
        raise UsageError(f"{folder / META} is broken; make the run again in another folder") from None
    return dict(found)


def read(folder: Path) -> tuple[list[Record], list[Record]]:
    """Read the records of a folder, each once, and the lines that close pictures."""
    records: list[Record] = []
    closing: dict[Group, Record] = {}
    for path in sorted(folder.glob("records-*.jsonl")):
        for lines, end in _groups(path):
            if group_of(end) not in closing:
                closing[group_of(end)] = end
                records += lines
    return records, list(closing.values())


def _groups(path: Path) -> Iterator[tuple[list[Record], Record]]:
    for lines, end, _ in _closed(path.read_bytes()):
        yield lines, end


def _closed(content: bytes) -> Iterator[tuple[list[Record], Record, int]]:
    """Give the records of each closed picture, the line that closes it, and where that ends."""
    lines: list[Record] = []
    at = 0
    for raw in content.splitlines(keepends=True):
        at += len(raw)
        try:
            line = json.loads(raw) if raw.endswith(b"\n") else None
        except ValueError:
            line = None
        if not isinstance(line, dict):
            return
        if "done" in line:
            yield lines, line, at
            lines = []
        else:
            lines.append(line)


class Writer:
    """Appends the records of whole pictures to the file of one process."""

    def __init__(self, file: BinaryIO, done: set[Group]) -> None:
        self.file, self.done = file, done

    def write(self, records: Sequence[Record], end: Record) -> None:
        """Append the records of a picture and the line that closes it."""
        lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in [*records, end])
        self.file.write("".join(lines).encode())
        self.file.flush()
        os.fsync(self.file.fileno())
        self.done.add(group_of(end))


@contextmanager
def writing(folder: Path, part: int, parts: int) -> Iterator[Writer]:
    """Open the file of one process: cut off what was not closed, and find out what is done, by whomever.

    Raises:
        UsageError: another process is writing this part.
    """
    with (folder / f"records-{part}-of-{parts}.jsonl").open("a+b") as file:
        if not _lock(file, wait=False):
            raise UsageError(f"another process is writing part {part}/{parts} of {folder}; wait for it, or end it")
        file.seek(0)
        file.truncate(max((end for _, _, end in _closed(file.read())), default=0))
        yield Writer(file, {group_of(line) for line in read(folder)[1]})


def _lock(file: BinaryIO, *, wait: bool) -> bool:
    """Lock a file until it is closed; where the system has no such locks, trust the user."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
