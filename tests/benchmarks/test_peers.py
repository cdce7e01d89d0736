"""The benchmark of the methods' own cost runs and says what it measured on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tree import ROOT

NAMES = ["hero", "full", "uniform", "divprune"]


def test_it_times_the_methods_that_are_named_and_hero(tmp_path: Path) -> None:
    file = tmp_path / "peers.json"
    words = ["--small", "--methods", ",".join(NAMES[1:]), "--json", file]
    done = subprocess.run([sys.executable, ROOT / "benchmarks/peers.py", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    record = json.loads(file.read_text("utf-8"))
    assert list(record["ratios"]) == list(record["seconds"]) == NAMES
    assert record["ratios"]["hero"] == 1
    for times in record["seconds"].values():
        assert 0 < times["min_s"] <= times["median_s"] <= times["max_s"]
    assert (record["shape"]["tiles"], record["shape"]["patches"], record["small"], record["rounds"]) == (
        5,
        576,
        True,
        2,
    )
    assert {"python", "torch", "transformers", "machine", "threads", "keep"} < {*record}
