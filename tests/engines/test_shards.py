"""The folder of a batch: whole files or none, one run, one writer."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the extra 'ray' brings it")

import pyarrow.parquet as pq

from herovlm.engines.ray import shards
from herovlm.engines.ray.manifest import Row
from herovlm.errors import UsageError

ROWS = [Row(f"id{n}", "x.png", "?") for n in range(50)]


def record(row: Row, **said):
    return {**dict.fromkeys(shards.FIELDS), "id": row.id, "image": row.image, "question": row.question, **said}


def test_every_row_is_in_one_shard_whatever_the_order() -> None:
    parts = shards.split(ROWS, 7)
    assert sorted(row.id for part in parts for row in part) == sorted(row.id for row in ROWS)
    assert shards.split(ROWS[::-1], 7) == parts


def test_what_was_written_is_read(tmp_path: Path) -> None:
    records = [record(row, answer="ö", kept=3.5, of=10, seconds=0.1) for row in ROWS[:3]]
    shards.write(tmp_path, 4, records)
    assert shards.read(tmp_path, 4, ROWS[:3]) == records
    assert pq.read_table(tmp_path).num_rows == 3, "readers of folders see the shards alone"
    assert shards.read(tmp_path, 4, ROWS[:4]) is None, "other rows"
    assert shards.read(tmp_path, 5, ROWS[:3]) is None, "no such file"


@pytest.mark.parametrize("left", [0, 1, 40, -1])
def test_a_shard_that_was_cut_is_none(left: int, tmp_path: Path) -> None:
    shards.write(tmp_path, 0, [record(row) for row in ROWS])
    path = shards.file_of(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:left])
    assert shards.read(tmp_path, 0, ROWS) is None


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards.write(tmp_path, 0, [record(ROWS[0], answer="old")])

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        shards.write(tmp_path, 0, [record(ROWS[0], answer="new")])
    found = shards.read(tmp_path, 0, ROWS[:1])
    assert found is not None
    assert found[0]["answer"] == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000.parquet"]


def test_a_folder_is_of_one_run(tmp_path: Path) -> None:
    shards.agree(tmp_path, {"keep": "0.2", "model": "demo"})
    shards.agree(tmp_path, {"keep": "0.2", "model": "demo"})
    with pytest.raises(UsageError, match=r"keep '0\.2' there, '0\.4' now"):
        shards.agree(tmp_path, {"keep": "0.4", "model": "demo"})
    (tmp_path / shards.RUN).write_text("{")
    with pytest.raises(UsageError, match="not what a batch wrote"):
        shards.agree(tmp_path, {"keep": "0.2", "model": "demo"})


def test_shards_of_nobody_are_not_taken_over(tmp_path: Path) -> None:
    shards.write(tmp_path, 0, [record(ROWS[0])])
    with pytest.raises(UsageError, match="nobody knows"):
        shards.agree(tmp_path, {})


def test_one_writer_at_a_time_who_clears_what_was_left(tmp_path: Path) -> None:
    (tmp_path / f"{shards.ASIDE}00001-abc").write_text("half")
    with shards.held(tmp_path):
        assert not list(tmp_path.glob(f"{shards.ASIDE}*"))
        with pytest.raises(UsageError, match="another batch"), shards.held(tmp_path):
            pass
    with shards.held(tmp_path):
        pass
