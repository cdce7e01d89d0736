"""Scenes are what they say: deterministic, readable, and every question has its one right answer."""

from __future__ import annotations

import re

import numpy as np
import pytest

from herovlm.demo import draw, scenes

SEEDS = range(5_000, 5_060)  # of no split


@pytest.fixture(scope="module")
def made() -> list[scenes.Scene]:
    return [scenes.make(seed) for seed in SEEDS]


def named(scene: scenes.Scene, name: str) -> list[scenes.Item]:
    return [item for item in scene.items if item.name == name]


def mentioned(text: str) -> list[str]:
    """Names in a text, in order: "red star"."""
    return [f"{c} {s}" for c, s in re.findall(rf"({'|'.join(draw.COLOURS)}) ({'|'.join(draw.SHAPES)})", text)]


def answer(scene: scenes.Scene, question: scenes.Question) -> str:
    """The right answer, found from the items alone."""
    names = mentioned(question.text)
    if question.kind == "fine":
        (item,) = named(scene, names[0])
        return item.text
    if question.kind == "reverse":
        (item,) = [item for item in scene.items if re.search(rf"\b{re.escape(item.text)}\?", question.text)]
        return item.name
    if question.kind == "existence":
        return "yes" if named(scene, names[0]) else "no"
    if question.kind == "counting":
        return str(len(named(scene, names[0])))
    (item,) = named(scene, names[0])
    columns, rows = (length / scenes.CELL for length in scene.image.size)
    x, y = item.cell[0] + 0.5, item.cell[1] + 0.5  # in cells; whole cells stand on each side of the middle
    if "left or right of" in question.text:
        return "left" if x < columns / 2 else "right"
    assert "above or below" in question.text
    return "above" if y < rows / 2 else "below"


def test_the_same_seed_is_the_same_scene_and_another_is_not() -> None:
    one, again, other = scenes.make(5), scenes.make(5), scenes.make(6)
    assert np.array_equal(np.asarray(one.image), np.asarray(again.image))
    assert (one.items, one.questions) == (again.items, again.questions)
    assert one.items != other.items


def test_every_answer_is_right(made: list[scenes.Scene]) -> None:
    for scene in made:
        for question in scene.questions:
            assert answer(scene, question) == question.answer, (scene.seed, question)


def test_every_kind_of_question_is_asked(made: list[scenes.Scene]) -> None:
    for scene in made:
        kinds = [question.kind for question in scene.questions]
        assert kinds.count("fine") == 2
        assert {*kinds} == {*scenes.QUESTION_KINDS}


def test_no_answer_can_be_guessed(made: list[scenes.Scene]) -> None:
    for kind, most in (("existence", 0.75), ("spatial", 0.75), ("counting", 0.75), ("reverse", 0.2), ("fine", 0.1)):
        told = [q.answer for scene in made for q in scene.questions if q.kind == kind]
        assert max(told.count(one) for one in told) <= most * len(told), kind


def test_no_item_stands_on_the_middle(made: list[scenes.Scene]) -> None:
    for scene in made:
        for item in scene.items:
            for low, high, length in zip(item.icon_box[:2], item.icon_box[2:], scene.image.size, strict=True):
                assert not low < length / 2 < high


def test_labels_are_unique_in_a_scene(made: list[scenes.Scene]) -> None:
    for scene in made:
        assert len({item.text for item in scene.items}) == len(scene.items) >= 4


def test_items_stand_inside_and_across_no_tile_border(made: list[scenes.Scene]) -> None:
    tile = 4 * scenes.CELL
    for scene in made:
        width, height = scene.image.size
        left, top = -width % tile // 2, -height % tile // 2  # where the processor puts the picture on its canvas
        for item in scene.items:
            column, row = item.cell
            assert 0 <= column < width // scenes.CELL
            assert 0 <= row < height // scenes.CELL
            x, y = column * scenes.CELL + left, row * scenes.CELL + top
            assert x // tile == (x + scenes.CELL - 1) // tile
            assert y // tile == (y + scenes.CELL - 1) // tile


def test_all_kinds_and_all_grids_occur(made: list[scenes.Scene]) -> None:
    tile = 4 * scenes.CELL
    grids = {(-(-scene.image.height // tile), -(-scene.image.width // tile)) for scene in made}
    assert grids == {*scenes.SIZES}
    assert {scene.kind for scene in made} == {*scenes.KINDS}


def test_kind_size_and_crowd_can_be_chosen() -> None:
    scene = scenes.make(1, kind="map", size=(384, 384), most=20)
    assert (scene.kind, scene.image.size) == ("map", (384, 384))
    assert max(len(scenes.make(seed, size=(384, 384), most=20).items) for seed in SEEDS) > 10


def test_the_splits_do_not_meet() -> None:
    splits = [*scenes.SPLITS.values()]
    assert all(a.stop <= b.start or b.stop <= a.start for i, a in enumerate(splits) for b in splits[:i])


@pytest.mark.parametrize("colour", draw.COLOURS)
@pytest.mark.parametrize("shape", draw.SHAPES)
def test_icons_differ(shape: str, colour: str) -> None:
    own = np.asarray(draw.icon(shape, colour, 20)).astype(int)
    for other in [(s, colour) for s in draw.SHAPES if s != shape] + [(shape, c) for c in draw.COLOURS if c != colour]:
        assert np.abs(own - np.asarray(draw.icon(*other, 20))).mean() > 3, other
