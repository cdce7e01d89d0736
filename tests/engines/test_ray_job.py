"""`herovlm batch` itself: killed at any moment, run twice, cut, changed; each id once, and nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("ray.data", reason="the extra 'ray' brings it")

import psutil
import pyarrow.parquet as pq
from piles import pile

from herovlm import demo
from herovlm.engines.ray import manifest as manifests
from herovlm.engines.ray.answer import Answering
from herovlm.engines.transformers import Transformers
from herovlm.request import Request

WAIT = 300  # seconds for anything to happen


def command(manifest: Path, out: Path, *more: str) -> list[str]:
    asked = ["batch", str(manifest), "--out", str(out), "--shard-rows", "3", "--max-new-tokens", "8", *more]
    return [sys.executable, "-m", "herovlm", *asked]


def run(manifest: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(manifest, out, *more), capture_output=True, text=True, timeout=2 * WAIT, check=False)


def losing_an_actor(manifest: Path, out: Path) -> None:
    """Go on with a batch whose actor is killed as soon as it is there; it ends well all the same."""
    process = subprocess.Popen(command(manifest, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end, killed = time.monotonic() + WAIT, []
    while process.poll() is None and not killed and time.monotonic() < end:
        killed = [one for one in psutil.Process(process.pid).children(recursive=True) if is_actor(one)]
        for actor in killed:
            actor.kill()
        time.sleep(0.05)
    assert process.wait(WAIT) == 0
    assert killed


def is_actor(process: psutil.Process) -> bool:
    try:
        return "MapWorker" in " ".join(process.cmdline())
    except psutil.Error:  # ended meanwhile
        return False


def answers(out: Path) -> dict[str, str]:
    """Answers by id; an id that is there twice fails."""
    rows = pq.read_table(out).to_pylist()
    found = {row["id"]: row["answer"] for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pile(tmp_path_factory.mktemp("pile"), boards=6)


@pytest.fixture(scope="module")
def wanted(manifest: Path) -> dict[str, str]:
    """The answers of a plain loop in this process."""
    rows = manifests.read(manifest)
    found = Answering(Transformers(*demo.load(), Request.of("hero", keep=0.2), max_new_tokens=8), batch=1).answer(rows)
    return {one["id"]: one["answer"] for one in found}


def test_whatever_is_killed_or_cut_each_id_is_answered_once(
    manifest: Path, wanted: dict[str, str], tmp_path: Path
) -> None:
    """The driver dies when so many shards are there (0: while it begins), then an actor, then a file is cut."""
    out = tmp_path / "out"
    for finished in (0, 1, 2):
        killed_with(finished, manifest, out)
        if list(out.glob("shard-*.parquet")):
            assert {*answers(out)} <= {*wanted}
    losing_an_actor(manifest, out)
    assert answers(out) == wanted

    before = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*.parquet")}
    cut = max(out.glob("shard-*.parquet"))
    cut.write_bytes(cut.read_bytes()[:100])
    done = run(manifest, out, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    rows = len(pq.read_table(cut))
    assert (told["rows"], told["answered"], told["failed"], told["skipped"]) == (12, 12, 0, 12 - rows)
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*.parquet")}
    assert {name for name in after if after[name] != before[name]} == {cut.name}
    assert answers(out) == wanted

    changed = run(manifest, out, "--keep", "0.5")
    assert changed.returncode == 2
    assert "keep '0.2' there, '0.5' now" in " ".join(changed.stderr.split())


def killed_with(finished: int, manifest: Path, out: Path) -> None:
    """Kill a batch, and all that it started, when so many shards are there."""
    process = subprocess.Popen(command(manifest, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + WAIT
    while process.poll() is None and time.monotonic() < end:
        if len(list(out.glob("shard-*.parquet"))) >= finished and (finished or (out / "_run.json").exists()):
            break
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    process.wait()
    for child in children:
        with suppress(psutil.Error):
            child.kill()


def test_bad_rows_say_why_and_are_tried_again(manifest: Path, wanted: dict[str, str], tmp_path: Path) -> None:
    first, second = (json.loads(line) for line in manifest.read_text().splitlines()[:2])
    folder = pile(tmp_path / "pile", boards=1).parent
    late = {**first, "id": "late", "image": "late.png"}
    (folder / "late.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in (first, second, late)))
    out = tmp_path / "out"
    done = run(folder / "late.jsonl", out)
    assert done.returncode == 3
    assert "1 of 3 rows" in " ".join(done.stderr.split())
    (folder / "late.png").write_bytes((folder / "0.png").read_bytes())
    assert run(folder / "late.jsonl", out).returncode == 3, "tried again only when that is asked for"
    assert run(folder / "late.jsonl", out, "--retry-failed").returncode == 0
    said = {row["id"]: wanted[row["id"]] for row in (first, second)}
    assert answers(out) == {**said, "late": wanted[first["id"]]}
