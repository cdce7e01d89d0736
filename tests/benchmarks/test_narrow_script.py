"""The benchmark of a shorter way through the tower runs small, and says how long and how right."""

from __future__ import annotations

from pathlib import Path

from test_scripts import check_spreads, measured, over


def test_narrow(tmp_path: Path) -> None:
    found = measured("narrow", tmp_path / "a.json")
    ways = ["plain", "hero", "vtc_cls", "0.75", "0.5", "0.25"]
    assert list(found["ratios"]) == list(found["times"]) == ways
    assert check_spreads([times["seconds"] for times in found["times"].values()]) == len(ways)
    assert all(found["ratios"][way] == over(found["times"], way, "plain", "seconds") for way in ways)
    assert list(found["accuracy"]) == ["hero@0.2", "hero@0.1", "vtc_cls@0.2"]
    for shares in found["accuracy"].values():
        assert list(shares) == ["1.0", "0.75", "0.5", "0.25"]
        for one in shares.values():
            low, high = one["interval95"]
            assert 0 <= low <= one["accuracy"] <= high <= 100
