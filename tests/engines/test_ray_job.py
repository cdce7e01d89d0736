"""`herovlm batch` itself: killed at any moment, run twice, cut, changed; each id once, and nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("ray.data", reason="the extra 'ray' brings it")

import psutil
import pyarrow.parquet as pq
from clusters import answers
from piles import pile

from herovlm import demo
from herovlm.engines.ray import manifest as manifests
from herovlm.engines.ray.answer import Answering
from herovlm.engines.ray.tries import Tries
from herovlm.engines.transformers import Transformers
from herovlm.request import Request

WAIT = 300  # seconds for anything to happen


def command(manifest: Path, out: Path, *more: str) -> list[str]:
    asked = ["batch", str(manifest), "--out", str(out), "--shard-rows", "3", "--max-new-tokens", "8", *more]
    return [sys.executable, "-m", "herovlm", *asked]


def run(manifest: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(manifest, out, *more), capture_output=True, text=True, timeout=2 * WAIT, check=False)


def losing_an_actor(manifest: Path, out: Path) -> None:
    """Go on with a batch whose actor is killed as soon as it is there; it ends well all the same, and says it alone."""
    process = subprocess.Popen(command(manifest, out, "--json"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    end, killed = time.monotonic() + WAIT, []
    while process.poll() is None and not killed and time.monotonic() < end:
        killed = [one for one in psutil.Process(process.pid).children(recursive=True) if is_actor(one)]
        for actor in killed:
            actor.kill()
        time.sleep(0.05)
    said, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert killed
    assert json.loads(said)["failed"] == 0, "what Ray says of the actor is not among the output"


def is_actor(process: psutil.Process) -> bool:
    try:
        return "MapWorker" in " ".join(process.cmdline())
    except psutil.Error:  # ended meanwhile
        return False


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pile(tmp_path_factory.mktemp("pile"), boards=6)


@pytest.fixture(scope="module")
def wanted(manifest: Path) -> dict[str, str]:
    """The answers of a plain loop in this process."""
    rows = manifests.read(manifest)
    found = Answering(Transformers(*demo.load(), Request.of("hero", keep=0.2), max_new_tokens=8), batch=1).answer(
        rows, Tries(manifest.with_name("tries"))
    )
    return {one["id"]: one["answer"] for one in found}


def test_whatever_is_killed_or_cut_each_id_is_answered_once(
    manifest: Path, wanted: dict[str, str], tmp_path: Path
) -> None:
    """The driver dies when one shard is there, then an actor, then a file is cut."""
    out = tmp_path / "out"
    killed_with_a_shard(manifest, out)
    assert answers(out).items() <= wanted.items()
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


def killed_with_a_shard(manifest: Path, out: Path) -> None:
    """Kill the driver of a batch, and it alone, when a shard is there: what it had started ends with it."""
    process = subprocess.Popen(command(manifest, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + WAIT
    while not list(out.glob("shard-*.parquet")):
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < end
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, left = psutil.wait_procs(children, WAIT)
    assert not left
