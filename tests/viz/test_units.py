"""Numbers are written with their unit, and read back as what they were."""

from __future__ import annotations

import pytest

from herovlm.viz import units


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.00831, "8.31 ms"), (0.0456, "45.6 ms"), (0.412, "412 ms"), (1.236, "1.24 s"), (75.0, "75.0 s")],
)
def test_seconds(value: float, written: str) -> None:
    assert units.seconds(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0 B"), (1024, "1.00 KiB"), (1_593_836, "1.52 MiB"), (1 << 40, "1.00 TiB"), (1 << 52, "4,096 TiB")],
)
def test_size(value: int, written: str) -> None:
    assert units.size(value) == written


@pytest.mark.parametrize(
    ("part", "whole", "written"), [(1, 5, "20 %"), (3, 88, "3.4 %"), (0, 9, "0 %"), (9, 9, "100 %"), (0, 0, "0 %")]
)
def test_share(part: int, whole: int, written: str) -> None:
    assert units.share(part, whole) == written


@pytest.mark.parametrize(
    ("layers", "written"),
    [((), "2,880"), ((2880, 2880), "2,880"), ((2880, 1440, 1440, 0), "2,880 → 1,440 → 0"), ((5, 5), "2,880 → 5")],
)
def test_positions_are_written_where_they_fall(layers: tuple[int, ...], written: str) -> None:
    assert units.positions(2880, layers) == written


@pytest.mark.parametrize(
    ("value", "written"), [(0, "0"), (0.2571, "0.257"), (0.000312, "0.000312"), (12345.6, "12,346"), (-2, "-2")]
)
def test_scores(value: float, written: str) -> None:
    assert units.number(value) == written


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([0.257, 1e-11], ["0.26", "0.00"]),
        ([0.034, 0.0], ["0.034", "0.000"]),
        ([120.0, 3.0], ["120", "3"]),
        ([0.0, 0.0], ["0", "0"]),
        ([float("nan"), 0.5], ["nan", "0.50"]),
        ([], []),
    ],
)
def test_scores_that_are_compared_have_the_same_decimals(values: list[float], written: list[str]) -> None:
    assert units.alike(values) == written
