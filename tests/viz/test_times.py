"""What is slower is called slower, and what was measured once says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from grids import make_seen
from reports import an_answer

from herovlm.viz import times
from herovlm.viz.records import Asked

SEEN = make_seen(2, 2, 4, (1, 0))
FULL, HERO = an_answer(SEEN, "full", "seven"), an_answer(SEEN, "hero", "seven")


@pytest.mark.parametrize(
    ("full", "this", "want"),
    [
        (3.0, 1.0, ("gain", "3.0 x faster")),
        (1.0, 1.5, ("loss", "1.5 x slower")),
        (1.0, 1.04, ("", "")),
        (1.0, 0.96, ("", "")),
        (0.0, 1.0, ("", "")),
        (1.0, 0.0, ("", "")),
    ],
)
def test_a_cost_beside_another(full: float, this: float, want: tuple[str, str]) -> None:
    assert times.beside(full, this) == want


def test_every_method_is_compared_with_full_from_the_picture_on() -> None:
    """Prefill alone is 2.7 times faster here, and writing takes longer."""
    slow = replace(HERO, vision=0.1778, writing=0.2)
    (line,) = times.compared([Asked("a?", (FULL, slow)), Asked("b?", (FULL, slow))])
    assert line == "hero, keep 0.25, beside full: first token 1.3 x slower, whole answer 1.6 x slower"
    (line,) = times.compared([Asked("a?", (FULL, replace(FULL, method="vtc_cls")))])
    assert line == "vtc_cls, beside full: first token as fast, whole answer as fast"


def test_without_the_full_model_there_is_nothing_to_compare_with() -> None:
    assert times.compared([Asked("a?", (HERO, replace(HERO, method="random")))]) == []


def test_one_measurement_is_told_as_one() -> None:
    assert "timed once" in times.measured([replace(FULL, rounds=5), HERO])
    assert "5 rounds" in times.measured([replace(FULL, rounds=5), replace(HERO, rounds=5)])
