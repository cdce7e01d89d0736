"""Every benchmark runs small on any machine, and its JSON says what it promises; no time is judged here."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tree import ROOT

from herovlm import registry
from herovlm.budget import Share
from herovlm.cost import shapes, theory

SAID = {"small", "rounds", "shape", "llm_layers", "dtype", "attention", "device", "machine", "threads", "memory"}
OF = 2928  # positions of 2 x 2 tiles of 24 x 24 patches, newlines included
KEEPS = (1.0, 0.4, 0.2, 0.1, 0.05)


def measured(name: str, file: Path, *words: object) -> dict[str, Any]:
    """Run one script as a user does."""
    line = [sys.executable, ROOT / f"benchmarks/{name}.py", "--small", "--rounds", 1, *words, "--json", file]
    done = subprocess.run([*map(str, line)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    record: dict[str, Any] = json.loads(file.read_text("utf-8"))
    assert SAID | {"python", "torch", "transformers", "ratios"} < {*record}
    assert (record["benchmark"], record["small"], record["rounds"]) == (name, True, 1)
    return record


def rows(block: str, record: dict[str, Any]) -> list[list[str]]:
    """The table of docs/cost.md, cell by cell, without its head."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        costs = importlib.import_module("costs")
    name, table = costs.BLOCKS[block]
    assert name == record["benchmark"]
    lines = table(record)
    assert "small shape" in lines[0]
    assert record["torch"] in lines[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    widths = {len(row) for row in cells}
    assert len(widths) <= 2  # growth has two tables
    return cells[1:]


def check_spreads(value: Any) -> int:
    """Every median lies between its ends; return how many there are."""
    if not isinstance(value, dict):
        return sum(map(check_spreads, value)) if isinstance(value, list) else 0
    if {*value} == {"median", "min", "max"}:
        assert 0 <= value["min"] <= value["median"] <= value["max"]
        return 1
    return sum(map(check_spreads, value.values()))


def over(results: Any, name: str, of: str, what: str) -> Any:
    """A ratio of medians, which is the median of ratios where there is one round."""
    quotient = results[name][what]["median"] / results[of][what]["median"]
    return pytest.approx(quotient, rel=0.02, abs=0.01)  # times are rounded to microseconds


def test_signals(tmp_path: Path) -> None:
    found = measured("signals", tmp_path / "a.json")
    ratios = found["ratios"]
    for dtype in ("bfloat16", "float32"):
        results = found["results"][dtype]
        for way in ("signals", "drop", "authors"):
            assert ratios[dtype][f"{way}_over_tower"] == over(results, way, "tower", "seconds")
    assert {name: ratios[name] for name in ratios["bfloat16"]} == ratios["bfloat16"]
    assert check_spreads(found["results"]) == 2 * 4 * 3
    assert [row[3] for row in rows("seeing", found)][:2] == ["1.000", f"{ratios['bfloat16']['signals_over_tower']:.3f}"]


def test_first_token(tmp_path: Path) -> None:
    found = measured("first_token", tmp_path / "a.json")
    ratios, results = found["ratios"], found["results"]
    for keep in map(str, KEEPS):
        assert found["theory"][keep]["positions"] == Share(float(keep)).of(OF)
        assert ratios["first_token_over_ideal"][keep] == over(results, f"hero@{keep}", f"ideal@{keep}", "first_token")
        assert ratios["speedup"][keep] == over(results, "hero@1.0", f"hero@{keep}", "first_token")
    in_theory = [ratios["speedup_in_theory"][str(keep)] for keep in KEEPS]
    assert in_theory == sorted(in_theory)
    assert in_theory[0] == 1
    check_spreads(results)
    assert [row[:2] for row in rows("first_token", found)] == [[str(keep), f"{Share(keep).of(OF):,}"] for keep in KEEPS]


def test_peers(tmp_path: Path) -> None:
    names = ["hero", "full", "uniform", "divprune", "hero + fastv"]
    found = measured("peers", tmp_path / "a.json", "--methods", ",".join(names[2:]))
    assert list(found["selection"]) == list(found["first_token"]) == names
    assert found["ratios"]["selection_over_hero"]["hero"] == found["ratios"]["first_token_over_full"]["full"] == 1
    for name in names:
        ratios, results = found["ratios"], found["results"]
        assert ratios["first_token_over_hero"][name] == over(results, name, "hero", "first_token")
        assert found["theory"][name]["positions"] == (OF if name == "full" else Share(0.2).of(OF))
    assert found["image"] == {"tiles": 5, "patches": 576, "channels": 128, "heads": 4}
    check_spreads(found["results"])
    shown = [row[0].strip("`") for row in rows("peers", found)]
    assert shown == sorted(names, key=lambda name: found["ratios"]["first_token_over_hero"][name])


def test_the_list_of_peers_is_that_of_the_registry() -> None:
    done = subprocess.run([sys.executable, ROOT / "benchmarks/peers.py", "--help"], capture_output=True, text=True)
    assert "(default: all)" in " ".join(done.stdout.split())
    from herovlm.cli import options

    assert {*registry.METHODS, *registry.INSIDE} <= {name.split(" + ")[-1] for name in options.methods_of("all")}


def test_memory(tmp_path: Path) -> None:
    found = measured("memory", tmp_path / "a.json", "--llm-layers", 2)
    assert found["exact"] is True
    text = shapes.config_of("small", 2).text_config
    for keep, one in found["results"].items():
        kept = Share(float(keep)).of(OF)
        assert (one["visual_positions"], one["positions"]) == (kept, kept + 60 + found["new_tokens"] - 1)
        assert one["cache_bytes"] == one["cache_bytes_in_theory"] == theory.cache(text, one["positions"], 2)
        assert found["ratios"]["cache_bytes"][keep] == pytest.approx(
            one["cache_bytes"] / found["results"]["1.0"]["cache_bytes"], abs=1e-4
        )
        assert one["peak_bytes"] > one["above_bytes"] >= 0
        assert one["peak_bytes"] > one["weights_bytes"]
    assert all(row[2] == row[3] for row in rows("memory", found))


def test_growth(tmp_path: Path) -> None:
    found = measured("growth", tmp_path / "a.json")
    tiles, batches = (2, 3, 4, 5, 7, 10), (1, 2, 4, 8)
    assert list(found["results"]) == [f"tiles {n}" for n in tiles] + [f"batch {n}" for n in batches]
    assert check_spreads(found["results"]) == 3 * 10
    seconds = {name: each["seconds"]["median"] for name, each in found["results"].items()}
    ratios = found["ratios"]
    assert ratios["per_tile_10_over_2"] == pytest.approx(seconds["tiles 10"] / seconds["tiles 2"] / 5, rel=0.02)
    assert ratios["per_image_8_over_1"] == pytest.approx(seconds["batch 8"] / seconds["batch 1"] / 8, rel=0.02)
    for kind, counts in (("tiles", tiles), ("batch", batches)):
        fit = found["fits"][kind]
        middle = sum(counts) / len(counts)  # a line of least squares goes through the middle of its points
        mean = sum(seconds[f"{kind} {n}"] for n in counts) / len(counts)
        assert fit["intercept_s"] + middle * fit["slope_s"] == pytest.approx(mean, rel=0.02)
        assert fit["r_squared"] <= 1
    assert [row[0] for row in rows("growth", found)][:10] == list(found["results"])


def test_gpu_runs_small_without_a_gpu(tmp_path: Path) -> None:
    words = ("--parts", "growth,attention", "--methods", "uniform", "--device", "cpu")
    found = measured("gpu", tmp_path / "a.json", *words)
    assert {*found["ratios"]} == {"growth", "attention"}
    assert found["growth"]["ratios"] == found["ratios"]["growth"]
    results = found["attention"]["results"]
    assert {"sdpa, batch 1", "sdpa, batch 2", "eager, batch 1", "eager, batch 2"} <= {*results}
    for name, one in results.items():
        assert one["batch"] == int(name.split()[-1])
        whole, fifth = (row["theory"] for row in one["rows"])
        assert (fifth["positions"], fifth["of"]) == (Share(0.2).of(whole["positions"]), whole["of"])
        for row in one["rows"]:
            assert row["theory"]["cache"] == row["theory"]["cache_held"]


def test_all_parts_of_gpu_are_the_other_scripts() -> None:
    done = subprocess.run([sys.executable, ROOT / "benchmarks/gpu.py", "--help"], capture_output=True, text=True)
    listed = " ".join(done.stdout.split())
    assert "signals,first_token,peers,memory,growth,attention" in listed.replace(", ", ",")
