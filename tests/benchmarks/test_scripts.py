"""Every benchmark runs small on any machine, and its JSON says what it promises; no time is judged here."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts import run
from tree import ROOT

from herovlm import registry
from herovlm.budget import Share
from herovlm.cost import configs, theory

SAID = {
    "small",
    "rounds",
    "shape",
    "llm_layers",
    "dtype",
    "attention",
    "device",
    "machine",
    "clock",
    "threads",
    "memory",
}
OF = 2928  # positions of 2 x 2 tiles of 24 x 24 patches, newlines included
KEEPS = (1.0, 0.4, 0.2, 0.1, 0.05)


def measured(name: str, file: Path, *words: object) -> dict[str, Any]:
    """Run one script as a user does."""
    assert run(f"benchmarks/{name}.py", "--small", "--rounds", 1, *words, "--json", file) == ""
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


def test_question(tmp_path: Path) -> None:
    found = measured("question", tmp_path / "a.json")
    for way in ("alone", "together", "again"):
        assert found["ratios"][way] == over(
            {k: {"seconds": v} for k, v in found["results"].items()}, way, "pixels", "seconds"
        )
    assert check_spreads(found["results"]) == 4
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        lines = importlib.import_module("throughput").question(found)
    assert f"{1000 * found['results']['alone']['median']:.1f}" in lines[5]


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
    assert found["image"] == {"tiles": 5, "patches": 576, "channels": 64, "heads": 4}
    check_spreads(found["results"])
    shown = [row[0].strip("`") for row in rows("peers", found)]
    assert shown == sorted(names, key=lambda name: found["ratios"]["first_token_over_hero"][name])


def test_the_list_of_peers_is_that_of_the_registry() -> None:
    done = subprocess.run([sys.executable, ROOT / "benchmarks/peers.py", "--help"], capture_output=True, text=True)
    assert "(default: all)" in " ".join(done.stdout.split())
    from herovlm.cli import options

    assert {*registry.METHODS, *registry.INSIDE} <= {name.split(" + ")[-1] for name in options.methods_of("all")}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        peers = importlib.import_module("peers")
    left_out = [name for name in options.methods_of("all") if peers.looks_again(name)]
    assert left_out == ["downsample"], "a made-up prompt has no processor to make a picture smaller"


def test_memory(tmp_path: Path) -> None:
    found = measured("memory", tmp_path / "a.json", "--llm-layers", 2)
    assert found["exact"] is True
    text = configs.config_of("small", 2).text_config
    for keep, one in found["results"].items():
        kept = Share(float(keep)).of(OF)
        assert (one["visual_positions"], one["positions"]) == (kept, kept + 60 + found["new_tokens"] - 1)
        assert one["cache_bytes"] == one["cache_bytes_in_theory"] == theory.cache(text, one["positions"], 4)
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
    found = measured("gpu", tmp_path / "a.json", "--methods", "uniform,nosuch", "--llm-layers", 1, "--device", "cpu")
    assert (found["complete"], found["clock"], found["threads"]) == (True, "processor", 1)
    rows = found["first_token"]["batch 1"]
    assert list(rows) == [str(keep) for keep in KEEPS]
    for keep, row in rows.items():
        assert (row["positions"], row["of"]) == (Share(float(keep)).of(OF), OF)
        quotient = row["first_token"]["min"] / row["ideal"]["first_token"]["min"]
        assert row["first_token_over_ideal"] == pytest.approx(quotient, rel=0.01)
        whole = rows["1.0"]["first_token"]["min"]
        assert row["faster"] == pytest.approx(whole / row["first_token"]["min"], rel=0.01)
    assert [row["in_theory"] for row in rows.values()] == sorted(row["in_theory"] for row in rows.values())
    assert list(found["first_token"]["batch 2"]) == ["1.0", "0.2"]
    check_spreads(found)
    for one in found["traffic"].values():
        assert one["drop"]["operations"] > one["tower"]["operations"] > 0
        assert one["drop"]["reads"] > 0
    assert "no method is called 'nosuch'" in found["choosing"]["nosuch"]["error"], "a cell that fails says why"
    assert found["choosing"]["uniform"]["selection"]["median"] > 0
    assert list(found["answers"]) == ["batch 1, eager", "batch 1, static"]
    for name, one in found["answers"].items():
        assert one["full"]["answer 8"] > one["full"]["answer 4"] > one["full"]["answer 1"] > 0
        assert one["faster"]["answer 8"] == pytest.approx(one["full"]["answer 8"] / one["hero"]["answer 8"], rel=0.01)
        assert found["ratios"]["answers_faster"][name] == one["faster"]
    tables = {
        name: "\n".join(on_gpu(name, found)) for name in ("gpu_first", "gpu_answers", "gpu_traffic", "gpu_choosing")
    }
    assert all("small shape" in tables[name] for name in ("gpu_first", "gpu_answers", "gpu_choosing"))
    assert [tables["gpu_first"].count(f"| {of:,} |") for of in (OF, 146)] == [2, 1]
    assert "`uniform`" in tables["gpu_choosing"]
    assert "nosuch" not in tables["gpu_choosing"]


def on_gpu(block: str, record: dict[str, Any]) -> list[str]:
    """Lines of a block of docs/cost.md."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        return list(importlib.import_module("costs").BLOCKS[block][1](record))


def test_what_the_time_did_not_reach_is_told(tmp_path: Path) -> None:
    found = measured("gpu", tmp_path / "a.json", "--seconds", 0)
    cells = [cell for part in ("first_token", "traffic", "choosing", "answers") for cell in found[part].values()]
    assert len(cells) > len(registry.METHODS)
    assert {cell["error"] for cell in cells} == {"not begun: the 0 seconds were over"}
    assert "Not measured: batch 1: not begun" in "\n".join(on_gpu("gpu_first", found))


def test_a_run_that_is_cut_off_leaves_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def parts(_args: object) -> Iterator[dict[str, Any]]:
        yield {"one": 1}
        yield {"one": 1, "two": 2}
        raise KeyboardInterrupt

    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(sys, "argv", ["some.py", "--small", "--json", str(tmp_path / "a.json")])
    with pytest.raises(KeyboardInterrupt):
        importlib.import_module("record").main("About.", "some", parts, rounds=1)
    left = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert (left["benchmark"], left["one"], left["two"]) == ("some", 1, 2)


def test_where_it_does_not_pay_is_said() -> None:
    def cell(*times: float) -> dict[str, Any]:
        faster = {f"answer {n}": of for n, of in zip((1, 64), times, strict=True)}
        one = {**dict.fromkeys(faster, 1.0), "decode": 0.03, "peak": 2**30}
        return {"full": one, "hero": one, "faster": faster}

    about = dict.fromkeys(("device", "shape", "dtype", "attention", "torch", "transformers"), "x")
    answers = {"batch 1, eager": cell(1.4, 0.8), "batch 8, eager": cell(2.0, 1.01), "batch 32, eager": {"error": "no"}}
    told = {**about, "small": False, "threads": 1, "method": "hero", "keep": 0.2, "rounds": 3, "answers": answers}
    *_, last = on_gpu("gpu_answers", told)
    assert "batch 1, eager, 64 tokens: 1.25 x slower; batch 8, eager, 64 tokens: as fast." in last
    assert "Not measured: batch 32, eager: no." in on_gpu("gpu_answers", told)
