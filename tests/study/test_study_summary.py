"""What is made of records whose right sums are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from herovlm.study.summary import attention, numbers, roles, tiles

KINDS = ("easy", "hard")


def tile(picture: int, kind: str, worth: list[float], weight: list[float], **more: Any) -> dict[str, Any]:
    """A record of tiles: without a tile the log-likelihood falls by what it is worth, and by more than 1 is wrong."""
    scores = {"saliency": weight, "relevance": weight, "density": [1.0] * len(worth), "weight": weight}
    truth = {"log": -0.5, "right": True, "log_without": [-0.5 - w for w in worth]}
    asked = {"picture": str(picture), "kind": kind, "question": kind, "answer": "!", "grid": [1, len(worth)]}
    return {**asked, **scores, **truth, "right_without": [w <= 1 for w in worth], **more}


def test_rank_correlation() -> None:
    assert numbers.rank_correlation([1, 2, 3], [10, 20, 300]) == pytest.approx(1)
    assert numbers.rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert math.isnan(numbers.rank_correlation([1, 1, 1], [3, 2, 1]))


def test_pooled_is_spearman_over_everything() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    pairs = {str(n): list(zip(x[n::6], y[n::6], strict=True)) for n in range(6)}
    found = numbers.pooled(pairs)
    flat = [pair for some in pairs.values() for pair in some]
    assert found["value"] == pytest.approx(numbers.rank_correlation(*zip(*flat, strict=True)), abs=1e-4)
    assert found["low"] < found["value"] < found["high"]
    assert found["n"] == 60
    assert numbers.pooled({"a": [(1, 2), (1, 3)]}) == numbers.nothing()


def test_means_leave_out_what_is_no_number() -> None:
    found = numbers.mean({"a": [1.0, math.nan], "b": [3.0], "c": [math.nan]})
    assert (found["value"], found["n"]) == (2.0, 2)
    assert found["low"] <= 2 <= found["high"]
    assert numbers.mean({}) == numbers.nothing()


def test_a_good_weight_and_a_useless_density() -> None:
    lines = [tile(n, kind, [0.1, 5.0, 0.2], [0.1, 0.6, 0.3]) for n in range(10) for kind in KINDS]
    found = tiles.summarise([*lines, tile(99, "easy", [3.0], [1.0])])
    weight = found["scores"]["weight"]
    assert (found["pictures"], found["questions"]) == (10, 20), "one tile alone is no choice"
    assert weight["within"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 20}
    assert weight["finds"]["value"] == 1.0
    assert set(weight["kinds"]) == set(KINDS)
    assert found["scores"]["density"]["within"] == numbers.nothing()
    assert found["gain"]["value"] == 0.0
    assert found["verdict"]["word"] == "undecided here", "it is no better than one signal alone"
    assert found["differ"]["most"]["value"] == 5.0
    assert found["differ"]["accuracy_without_most"]["value"] == 0.0
    assert found["differ"]["accuracy_without_least"]["value"] == 1.0
    assert found["chance"]["value"] == pytest.approx(1 / 3, abs=1e-4)


def test_a_mixture_that_beats_both_signals() -> None:
    pairs = [([9.0, 1.0, 0.5], [0.9, 0.1, 0.2]), ([0.5, 1.0, 9.0], [0.2, 0.1, 0.9])]
    lines = [
        tile(n, kind, worth, weight, saliency=[0.9, 0.1, 0.2], relevance=[0.2, 0.1, 0.9])
        for n in range(8)
        for kind, (worth, weight) in zip(KINDS, pairs, strict=True)
    ]
    found = tiles.summarise(lines)
    assert found["gain"]["low"] > 0
    assert found["verdict"]["word"] == "holds"


def test_mixing_ends_in_its_parts() -> None:
    line = tile(0, "easy", [1.0, 2.0], [0.5, 0.5], saliency=[0.1, 0.9], relevance=[0.9, 0.1])
    only_relevance, only_saliency = (tiles.mixed(line, alpha) for alpha in (0.0, 1.0))
    assert only_relevance[0] > 0.99
    assert only_saliency[1] > 0.99
    assert sum(tiles.mixed(line, 0.5)) == pytest.approx(1)


def test_the_example_is_one_picture_with_two_answers_in_different_tiles() -> None:
    lines = [
        tile(0, "easy", [1.0, 9.0], [0.5, 0.5]),
        tile(0, "hard", [2.0, 9.0], [0.5, 0.5]),
        tile(1, "easy", [4.0, 1.0], [0.5, 0.5]),
        tile(1, "hard", [1.0, 3.0], [0.5, 0.5]),
        tile(1, "harder", [1.0, 8.0], [0.5, 0.5]),
    ]
    found = tiles.example(lines)
    assert [(line["picture"], line["kind"]) for line in found] == [("1", "easy"), ("1", "harder")]
    assert tiles.example(lines[:2]) == []


def looked(picture: int, early: float, late: float, depth: int = 8) -> dict[str, Any]:
    """A record of attention whose foreground share and norm switch in the middle."""
    half = depth // 2
    stage = np.arange(depth) >= half
    overlap = np.where(stage[:, None] == stage[None], 0.8, 0.1)
    np.fill_diagonal(overlap, 1.0)
    norm = [early] * half + [late] * half
    part = {"norm": norm, "entropy": [0.5] * depth, "overlap": overlap.tolist(), "area": [0.1] * depth}
    part |= {"foreground": [1 - n for n in norm], "background_norm": norm}
    return {"picture": str(picture), "thumbnail": part, "local": part}


def test_a_tower_as_the_paper_has_it() -> None:
    found = attention.summarise([looked(n, 0.2 + 0.01 * n, 0.9) for n in range(8)])
    assert found["suggested"]["switch"] == 4
    assert found["suggested"]["confidence"] == 1.0
    assert found["stages"]["norm"]["early"]["value"] == pytest.approx(0.235)
    assert found["stages"]["foreground"]["rise"]["value"] == pytest.approx(-0.665)
    assert found["verdict"]["word"] == "holds"
    assert found["parts"]["local"]["norm"] == pytest.approx([0.235] * 4 + [0.9] * 4)
    assert attention.summarise([looked(n, 0.9, 0.2) for n in range(8)])["verdict"]["word"] == "does not hold"


def test_an_unknown_foreground_is_left_out() -> None:
    lines = [looked(n, 0.2, 0.9) for n in range(4)]
    for line in lines:
        line["local"] = {name: line["local"][name] for name in ("norm", "entropy", "overlap")}
    found = attention.summarise(lines)
    assert set(found["stages"]) == {"norm", "entropy"}
    assert "foreground" not in found["parts"]["local"]
    assert "foreground" in found["parts"]["thumbnail"]


def test_no_picture_is_no_finding() -> None:
    assert attention.summarise([])["verdict"]["word"] == "undecided here"
    assert tiles.summarise([])["verdict"]["word"] == "undecided here"
    assert roles.summarise([], [])["verdict"]["word"] == "undecided here"


def chosen(picture: int, **logs: float) -> dict[str, Any]:
    """A record of roles: the log-likelihood of each way, the same at both keeps; above -1 it is right."""
    ways = {f"default:{way.replace('_', '/')}@{keep}": log for way, log in logs.items() for keep in (0.2, 0.1)}
    judged = {name: [log, log > -1] for name, log in {"full@1.0": -0.1, **ways}.items()}
    return {"picture": str(picture), "kind": KINDS[picture % 2], "judged": judged}


@pytest.mark.parametrize(
    ("ours", "best", "said"),
    [(-0.5, -2.0, "holds"), (-2.0, -0.5, "does not hold"), (-2.0, -2.0, "undecided here")],
)
def test_the_paper_s_way_is_compared_with_the_best_of_the_others(ours: float, best: float, said: str) -> None:
    lines = [chosen(n, late_early=ours, late_late=best, early_early=-3.0, early_late=-4.0) for n in range(8)]
    found = roles.summarise(lines, [])
    gain = found["pairs"]["default"]["gains"]["0.2"]
    assert gain["best"] == "late/late"
    assert gain["log"]["value"] == pytest.approx(ours - best)
    assert gain["against"]["early/late"]["log"]["value"] == pytest.approx(ours + 4)
    assert found["pairs"]["default"]["ways"]["late/early@0.1"]["accuracy"]["value"] == float(ours > -1)
    assert found["full"]["kinds"]["easy"]["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 4}
    assert found["verdict"]["word"] == said
