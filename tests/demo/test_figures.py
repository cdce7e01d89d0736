"""Figures are what they say: the same for the same seed, and each cue is in the picture where the box says."""

from __future__ import annotations

import numpy as np
import pytest

from herovlm.demo import figures, people, places

SEEDS = range(20_000, 20_036)  # of no split


@pytest.fixture(scope="module")
def made() -> list[figures.Figure]:
    return [figures.make(seed) for seed in SEEDS]


def test_a_seed_is_a_picture(made: list[figures.Figure]) -> None:
    again = figures.make(SEEDS[3])
    assert again.image.tobytes() == made[3].image.tobytes()
    assert (again.box, again.feeling, again.rationale) == (made[3].box, made[3].feeling, made[3].rationale)
    assert len({one.image.tobytes() for one in made}) == len(made)


def test_all_feelings_come_and_each_has_its_parts(made: list[figures.Figure]) -> None:
    assert {one.feeling for one in made} == {*figures.FEELINGS} == {*figures.TOLD}
    assert {*people.POSTURES} == {*places.PLACES} == {"", *figures.FEELINGS}


def test_splits_share_no_seed() -> None:
    seeds = [seed for split in figures.SPLITS.values() for seed in (split[0], split[-1])]
    assert seeds == sorted(seeds)


def test_the_box_is_where_the_person_is(monkeypatch: pytest.MonkeyPatch, made: list[figures.Figure]) -> None:
    """The same surroundings without a person differ within the box alone, and up to its sides."""

    def nobody(*_: object) -> tuple[float, float, float, float]:
        return 0.0, 0.0, 2.0, 2.0

    monkeypatch.setattr(people, "person", nobody)
    for one in made:
        empty = figures.make(one.seed).image
        rows, columns = np.nonzero((np.asarray(one.image).astype(int) != np.asarray(empty)).any(-1))
        left, top, right, bottom = one.box
        assert left - 4 <= columns.min() <= left + 6
        assert top - 4 <= rows.min() <= top + 6
        assert right - 6 <= columns.max() <= right + 4
        assert bottom - 6 <= rows.max() <= bottom + 4


def test_the_rationale_names_what_tells_the_feeling(made: list[figures.Figure]) -> None:
    for one in made:
        told = figures.TOLD[one.feeling]
        assert len(one.cues) in (2, 3)
        for cue, words in zip(figures.CUES, told, strict=True):
            assert (words.lower() in one.rationale.lower()) == (cue in one.cues)
