"""The folder of a run: meta.json says what it is, and each process appends records to a JSONL file of its own.

A record is a question under one configuration.  A line with their number, "done", closes the records of a picture; what
stands behind the last such line was being written when the process ended, and is cut off when the run goes on.
Damage anywhere before it is an error that names the line: no record is ever thrown away silently.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from herovlm.errors import UsageError

Record = dict[str, Any]
Group = tuple[str, str, str, str]  # model, task, split, picture
Check = Callable[[list[Record], Record], str]
GROUP = ("model", "task", "split", "picture")
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
                text = json.dumps({**once, **known, **facts}, indent=2, ensure_ascii=False) + "\n"
                new.write_bytes(text.encode("utf-8", "surrogatepass"))
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
        found = dict(json.loads((folder / META).read_bytes()))
    except OSError:
        raise UsageError(f"{folder} is not the folder of a run: it has no {META}; 'herovlm eval' makes one") from None
    except (ValueError, TypeError, RecursionError):
        raise UsageError(
            f"{folder / META} is broken; put a copy back, or make the run again in another folder"
        ) from None
    return found


def read(folder: Path, check: Check = lambda lines, end: "") -> tuple[list[Record], list[Record]]:
    """Read the records of a folder and the lines that close pictures; of each picture once.

    Of a picture that was asked about again, because something had failed, the first closed with the fewest failures.

    Args:
        folder: of the run.
        check: told the records of a picture and the line that closes them; what it says is wrong with them.

    Raises:
        UsageError: a line is damaged, or lines were changed by hand; says which.
    """
    best: dict[Group, tuple[list[Record], Record]] = {}
    for path in sorted(folder.glob("records-*.jsonl")):
        for lines, end, _ in _closed(path, path.read_bytes(), check):
            known = best.get(group_of(end))
            if known and not failures(known[1]) and not failures(end) and _said(known[0]) != _said(lines):
                raise UsageError(
                    f"{path} and another file of {folder}: {end['picture']} was answered in another way; records were "
                    "changed by hand: put copies of the files back"
                )
            if known is None or failures(end) < failures(known[1]):
                best[group_of(end)] = lines, end
    return [line for lines, _ in best.values() for line in lines], [end for _, end in best.values()]


def _said(lines: Sequence[Record]) -> list[str]:
    """What was answered about a picture and how it was scored, whatever the order and the time it took."""
    names = ("sample", "method", "keep", "positions", "answer", "score")
    return sorted(json.dumps([line.get(name) for name in names]) for line in lines)


def failures(end: Mapping[str, Any]) -> float:
    """Count what went wrong with a picture, by the line that closes it."""
    return math.inf if "unusable" in end else len(end.get("failed", ()))


def _closed(path: Path, content: bytes, check: Check) -> Iterator[tuple[list[Record], Record, int]]:
    """Give the records of each closed picture, the line that closes it, and where that ends in the file.

    What stands behind the last line that closes a picture was being written when the process ended: it may be torn.
    """
    lines: list[Record] = []
    whole: set[Group] = set()  # pictures of which nothing failed: nobody asks about them again
    at = first = 0  # bytes so far; lines before this picture
    bad = 0  # number of a damaged line
    for number, raw in enumerate(content.splitlines(keepends=True), 1):
        at += len(raw)
        line = _line(raw)
        bad = bad or number * (line is None)
        if line is None or "done" not in line:
            lines.append(line or {})
            continue
        if bad:
            raise UsageError(
                f"{path}, line {bad}: damaged, and there are good records behind it; put a copy of the file back, or "
                f"delete the lines {first + 1} to {number}, and the same command asks again what they answer"
            )
        wrong = _grouped(lines, line) or check(lines, line)
        wrong = wrong or f"{line['picture']} was answered before" * (group_of(line) in whole)
        if wrong:
            raise UsageError(
                f"{path}, lines {first + 1} to {number}: {wrong}; records were changed by hand: put a copy of the file "
                "back, or delete these lines, and the same command asks again what they answer"
            )
        if not failures(line):
            whole.add(group_of(line))
        yield lines, line, at
        lines, first = [], number


def _line(raw: bytes) -> Record | None:
    """Read one line; None where it is no whole JSON object."""
    try:
        line = json.loads(raw, parse_constant=_refuse) if raw.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _refuse(word: str) -> None:
    raise ValueError(word)  # NaN and Infinity are no JSON


def _grouped(lines: Sequence[Record], end: Record) -> str:
    """Describe what is wrong with a group of lines, if anything: all are of one picture, and as many as was said."""
    wanted = [end.get(name) for name in GROUP]
    if not all(isinstance(name, str) for name in wanted):
        return f"line that closes a picture without {', '.join(GROUP)}"
    if any([line.get(name) for name in GROUP] != wanted for line in lines):
        return f"records of another picture among those of {end['picture']!r}"
    return "" if end["done"] == len(lines) else f"{len(lines)} records where {end['done']} were written"


class Writer:
    """Appends the records of whole pictures to the file of one process."""

    def __init__(self, file: IO[bytes], done: dict[Group, Record]) -> None:
        self.file, self.done = file, done  # done: pictures of which nothing failed, and the lines that close them

    def write(self, records: Sequence[Record], end: Record) -> None:
        """Append the records of a picture and the line that closes it.

        Raises:
            OSError: they cannot be written.
        """
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in [*records, end])
        left = memoryview(text.encode("utf-8", "surrogatepass"))  # names of files need not be Unicode
        try:
            while left:
                left = left[self.file.write(left) :]
            os.fsync(self.file.fileno())
        except OSError as error:
            why = f"{error.strerror}; no answer before this is lost, and when it is mended the same command goes on"
            raise OSError(error.errno, why, str(self.file.name)) from None
        self.done[group_of(end)] = end


@contextmanager
def writing(folder: Path, part: int, parts: int) -> Iterator[Writer]:
    """Open the file of one process: cut off its unfinished end, and find out what is done, by whomever.

    Raises:
        UsageError: another process is writing this part, or a file is damaged in the middle.
    """
    with (folder / f"records-{part}-of-{parts}.jsonl").open("a+b", buffering=0) as file:
        if not _lock(file, wait=False):
            raise UsageError(f"another process is writing part {part}/{parts} of {folder}; wait for it, or end it")
        file.seek(0)
        whole = max((end for _, _, end in _closed(Path(file.name), file.read(), lambda *_: "")), default=0)
        done = {group_of(end): end for end in read(folder)[1] if not failures(end)}  # before anything is cut off
        file.truncate(whole)
        yield Writer(file, done)


def _lock(file: IO[bytes], *, wait: bool) -> bool:
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
