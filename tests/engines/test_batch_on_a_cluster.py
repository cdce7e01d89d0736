"""A batch on a real cluster: killed at five moments, rows that kill, a full disk, actors that come; and the command."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray.data", reason="the extra 'ray' brings it")

import clusters
import jsonschema
import pyarrow.parquet as pq
import ray
import yaml
from clusters import answers, pretending
from piles import pile
from tree import ROOT

from herovlm.engines.ray import job, shards
from herovlm.engines.ray import manifest as manifests
from herovlm.engines.ray.tries import MOST
from herovlm.errors import SetupError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own settings, where it is imported
WAIT = 300  # seconds for anything to happen
MOMENTS = ("beginning", "loading", "placing", "answering", "ending")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with clusters.started() as address:
        yield address


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pile(tmp_path_factory.mktemp("pile"), boards=6)


@pytest.fixture(scope="module")
def rows(manifest: Path) -> list[manifests.Row]:
    return manifests.read(manifest)


def settings(address: str | None, **more) -> job.Settings:
    return job.Settings("none", "hero", "0.2", **{"rows": 3, "address": address, **more})


def backwards(rows: list[manifests.Row]) -> dict[str, str]:
    return {row.id: row.question[::-1] for row in rows}


def killed_at(moment: str, manifest: Path, out: Path, address: str) -> None:
    """Kill the driver, and it alone, when it or its actor has come to a moment."""
    command = [sys.executable, str(Path(__file__).with_name("stopped.py")), str(manifest), str(out), address, moment]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + WAIT
    while not out.with_name(f"reached-{moment}").exists():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.wait()


def test_killed_at_five_moments_each_id_is_there_once(
    cluster: str, manifest: Path, rows: list[manifests.Row], tmp_path: Path
) -> None:
    out, found = tmp_path / "out", {}
    for moment in MOMENTS:
        killed_at(moment, manifest, out, cluster)
        there = answers(out) if list(out.glob("shard-*")) else {}
        assert there.items() <= backwards(rows).items()
        found[moment] = len(there), len(list(out.glob(f"{shards.ASIDE}0*"))), (out / shards.RUN).exists()
    first = found["answering"][0]
    assert 0 < first < len(rows)
    assert found == {
        "beginning": (0, 0, False),
        "loading": (0, 0, True),
        "placing": (0, 1, True),
        "answering": (first, 0, True),
        "ending": (len(rows), 0, True),
    }
    asked = (tmp_path / "asked-ending").read_text().splitlines()
    assert len(asked) == len(rows) - first, "what is in place is not answered again"
    done = job.run(settings(None), rows, out, pretending(tmp_path / "log"))
    assert (done.rows, done.answered, done.skipped) == (len(rows), len(rows), len(rows))
    assert answers(out) == backwards(rows)
    assert not list(out.glob(f"{shards.ASIDE}*"))


def test_a_row_that_kills_its_process_every_time_costs_only_itself(
    cluster: str, rows: list[manifests.Row], tmp_path: Path
) -> None:
    log, out, deadly = tmp_path / "log", tmp_path / "out", rows[4]
    some = [row for row in rows if row.image != deadly.image or row == deadly]
    done = job.run(settings(cluster), some, out, pretending(log, deadly=Path(deadly.image).name))
    assert (done.rows, done.failed) == (len(some), 1)
    said = {row["id"]: row for row in pq.read_table(out).to_pylist()}
    assert f"{MOST} processes died" in said.pop(deadly.id)["error"]
    assert {key: row["answer"] for key, row in said.items()} == backwards([row for row in some if row != deadly])
    assert Counter(log.read_text().splitlines())["died"] == MOST


def test_a_model_that_kills_who_loads_it_ends_the_batch(
    cluster: str, rows: list[manifests.Row], tmp_path: Path
) -> None:
    with pytest.raises(SetupError, match=f"cannot be loaded: {MOST} processes died"):
        job.run(settings(cluster), rows, tmp_path / "out", pretending(tmp_path / "log", loads=False))
    assert (tmp_path / "log").read_text().splitlines() == ["load"] * MOST


def test_actors_come_as_they_are_needed(cluster: str, rows: list[manifests.Row], tmp_path: Path) -> None:
    log = tmp_path / "log"
    how = settings(cluster, rows=1, actors=(1, 3), cpus=0.5)
    job.run(how, rows, tmp_path / "out", pretending(log, together=2))
    assert answers(tmp_path / "out") == backwards(rows)
    assert 1 < len({line.split()[0] for line in log.read_text().splitlines()}) <= 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 16 pages."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here, which needs root: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_said_and_with_room_the_batch_ends(
    cluster: str, rows: list[manifests.Row], small_disk: Path, tmp_path: Path
) -> None:
    out, rest = small_disk / "out", small_disk / "rest"
    rest.write_bytes(bytes(12 << 12))  # four pages are left: for the run, one shard, and what is noted
    with pytest.raises(SetupError, match=r"No space left.*the same command goes on from there"):
        job.run(settings(cluster), rows, out, pretending(tmp_path / "log"))
    there = answers(out)
    assert 0 < len(there) < len(rows)
    assert {path.name[:6] for path in out.iterdir()} == {".lock", "_run.j", "shard-"}, "whole files alone"
    rest.unlink()
    done = job.run(settings(cluster), rows, out, pretending(tmp_path / "log"))
    assert (done.answered, done.skipped) == (len(rows), len(there))
    assert answers(out) == backwards(rows)


def test_a_shard_that_outgrows_the_disk_leaves_nothing(rows: list[manifests.Row], small_disk: Path) -> None:
    """The room ends in the middle of its file."""
    noise, none = random.Random(0), dict.fromkeys(shards.FIELDS)
    long = [{**none, "id": row.id, "answer": noise.randbytes(9000).hex()} for row in rows]
    with pytest.raises(OSError, match="No space left"):
        shards.write(small_disk, 0, long)
    assert not list(small_disk.iterdir())


def test_the_command_takes_a_cluster_and_tries_bad_rows_again(cluster: str, manifest: Path, tmp_path: Path) -> None:
    first, second = (json.loads(line) for line in manifest.read_text().splitlines()[:2])
    folder = pile(tmp_path / "pile", boards=1).parent
    late = {**first, "id": "late", "image": "late.png"}
    (folder / "late.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in (first, second, late)))
    out = tmp_path / "out"

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        asked = ["batch", str(folder / "late.jsonl"), "--out", str(out), "--max-new-tokens", "8", *more]
        command = [sys.executable, "-m", "herovlm", *asked]
        return subprocess.run(command, capture_output=True, text=True, timeout=2 * WAIT, check=False)

    done = run("--address", cluster)
    assert done.returncode == 3, done.stderr
    assert "1 of 3 rows" in " ".join(done.stderr.split())
    (folder / "late.png").write_bytes((folder / "0.png").read_bytes())
    assert run().returncode == 3, "tried again only when that is asked for"
    assert run("--address", cluster, "--retry-failed").returncode == 0
    found = answers(out)
    assert found["late"] == found[first["id"]]
    assert {*found} == {first["id"], second["id"], "late"}
    assert all(found.values())


@pytest.mark.parametrize(
    ("last", "match"),
    [
        (
            "AuthenticationError: no token. Note: RAY_AUTH_MODE is 'disabled'",
            r"it wants a token: set RAY_AUTH",
        ),
        ("RpcError: Timed out", r"RpcError: Timed out"),
    ],
)
def test_a_cluster_that_is_not_to_be_had_says_why(
    last: str, match: str, rows: list[manifests.Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own words are lines of a traceback, in the cause of what it raises."""

    def refused(**how: object) -> None:
        raise ConnectionError("Failed to connect") from RuntimeError(f"Last error: Traceback:\n  File x\n{last}\n")

    monkeypatch.setattr("ray.init", refused)
    with pytest.raises(SetupError, match=rf"^no Ray cluster answers at here:1 \({match}"):
        job.run(settings("here:1"), rows, tmp_path / "out", pretending(tmp_path / "log"))


def test_the_cluster_file_is_one_of_rays_and_the_page_uses_it() -> None:
    file = yaml.safe_load((ROOT / "docs/cluster.yaml").read_text("utf-8"))
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text("utf-8"))
    jsonschema.validate(file, schema)
    started = file["head_start_ray_commands"] + file["worker_start_ray_commands"]
    assert [f"ray start {how}" in " ".join(started) for how in ("--head", "--address=$RAY_HEAD_IP:")] == [True, True]
    assert all("RAY_AUTH_MODE=token" in one for one in started if "ray start" in one)
    page = (ROOT / "docs/batch.md").read_text("utf-8")
    assert "ray up docs/cluster.yaml" in page
    assert "ray exec docs/cluster.yaml" in page
