"""The folder of a batch: fixed shards by a hash of the id, each a file that is put in place whole or not at all.

A reader sees each id at most once at any moment, and exactly once when the batch has ended; a row may have been
answered more than once on the way there.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from herovlm.engines.ray.manifest import Row
from herovlm.engines.ray.tries import Tries
from herovlm.errors import SetupError, UsageError

RUN, LOCK, ASIDE = "_run.json", ".lock", ".aside-"  # readers of Parquet folders pass over such names
FIELDS = ("id", "image", "question", "answer", "kept", "of", "seconds", "error")


def split(rows: Sequence[Row], shards: int) -> list[list[Row]]:
    """Deal rows into shards by a hash of their ids: the same on every machine, in order of id within a shard."""
    dealt: list[list[Row]] = [[] for _ in range(shards)]
    for row in rows:
        dealt[int(hashlib.sha256(row.id.encode()).hexdigest()[:12], 16) % shards].append(row)
    return [sorted(part, key=lambda row: row.id) for part in dealt]


def file_of(folder: Path, shard: int) -> Path:
    """Return the file of a shard."""
    return folder / f"shard-{shard:05d}.parquet"


def tries(folder: Path, what: str) -> Tries:
    """Return what processes died of while they did something; forgotten when the next batch holds the folder."""
    return Tries(folder / f"{ASIDE}tries-{what}")


def write(folder: Path, shard: int, records: Sequence[Mapping[str, Any]]) -> None:
    """Put the file of a shard in place: written aside, on the disk, and renamed.

    Raises:
        OSError: there is no room, or no right to write; nothing is left behind.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"kept": pa.float64(), "of": pa.int64(), "seconds": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in FIELDS])
    aside = folder / f"{ASIDE}{shard:05d}-{uuid.uuid4().hex}"
    try:
        with aside.open("wb") as file:
            pq.write_table(pa.Table.from_pylist(list(records), schema=schema), file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(file_of(folder, shard))
    except BaseException:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def read(folder: Path, shard: int, rows: Sequence[Row]) -> list[dict[str, Any]] | None:
    """Read a finished shard; None where there is none, or where its file is broken or has other rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.ParquetFile(file_of(folder, shard)).read().to_pylist()
    except (OSError, pa.ArrowException):
        return None
    whole = [one.get("id") for one in found] == [row.id for row in rows]
    return found if whole and all({*FIELDS} <= {*one} for one in found) else None


def agree(folder: Path, run: Mapping[str, Any]) -> None:
    """Write what a run is beside its shards, or check that the folder holds this one.

    Raises:
        UsageError: it holds another run, or something else; says what differs.
    """
    path = folder / RUN
    if not path.exists():
        if any(folder.glob("shard-*.parquet")):
            raise UsageError(f"{folder} has shards but no {RUN}, so nobody knows of what run; give another --out")
        aside = folder / f"{ASIDE}{uuid.uuid4().hex}"
        aside.write_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n", "utf-8")
        aside.replace(path)
        return
    try:
        known = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        known = None
    if not isinstance(known, dict):
        raise UsageError(f"{path} is not what a batch wrote; give another --out")
    differ = [name for name in {**run, **known} if known.get(name) != run.get(name)]
    if differ:
        told = "; ".join(f"{name} {known.get(name)!r} there, {run.get(name)!r} now" for name in differ)
        raise UsageError(f"{folder} holds another run: {told}; give another --out, or what it was begun with")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder for one batch, and clear away what was not put in place: by this one, or by one that was killed.

    Raises:
        UsageError: another batch holds it.
        SetupError: it cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UsageError(f"another batch writes into {folder}; wait for it, or give another --out") from None
    except OSError as error:
        raise SetupError(f"cannot write into {folder} ({error.strerror}); give another --out") from None
    try:
        _clear(folder)
        yield
    finally:
        _clear(folder)
        lock.release()


def _clear(folder: Path) -> None:
    for left in folder.glob(f"{ASIDE}*"):
        left.unlink(missing_ok=True)
