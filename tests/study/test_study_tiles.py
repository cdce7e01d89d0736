"""Dropping a tile, and what the scores of tiles are compared with."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from grids import make_seen

from herovlm.demo import load, scenes
from herovlm.eval import samples, task
from herovlm.eval.answer import Reader
from herovlm.eval.samples import Sample
from herovlm.study.measure import foreground, tiles
from herovlm.study.measure.foreground import shown
from herovlm.study.measure.look import see
from herovlm.types import Needs


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(*load(), batch=2_048)


def test_only_one_tile_is_dropped() -> None:
    seen = make_seen(2, 1, 4, (0, 0))
    for tile in (1, 2):
        kept = tiles.without(seen, tile)
        assert not kept.mask[tile].any()
        others = [other for other in range(3) if other != tile]
        assert torch.equal(kept.mask[others], seen.valid[others])
        assert kept.newlines.sum() == seen.grid.sent.sum() / 2, "rows of the dropped tile are empty"
    beside = tiles.without(make_seen(1, 2, 4, (0, 0)), 1)
    assert beside.newlines.all(), "its rows still hold the patches of the tile beside it"


def test_the_tile_with_the_asked_item_is_worth_more_than_an_empty_one(reader: Reader) -> None:
    done = 0
    for seed in scenes.SPLITS["development"]:
        scene = scenes.make(seed, size=(384, 384), most=5)
        grid = see(reader, scene.image, Needs()).grid
        empty = (~shown(scene, grid).foreground[1:].any(1)).nonzero().flatten().tolist()
        asked = [q for q in scene.questions if q.kind == "fine"][:1]
        if not empty or not asked:
            continue
        item = next(item for item in scene.items if item.text == asked[0].answer)
        home = item.cell[1] // 4 * 2 + item.cell[0] // 4  # cells of 48 pixels, tiles of 4 x 4 cells
        (found,) = tiles.measure(reader, scene.image, [Sample("a", asked[0].text, (asked[0].answer,), "fine")])
        falls = [found["log"] - one for one in found["log_without"]]
        assert found["right"]
        assert not found["right_without"][home]
        assert all(found["right_without"][tile] for tile in empty)
        assert falls[home] > 1 > max(falls[tile] for tile in empty)
        done += 1
        if done == 2:
            return
    pytest.fail("no scene has an empty tile")


def test_records_hold_a_number_for_every_tile(reader: Reader) -> None:
    scene = scenes.make(10_000, size=(576, 192))
    samples = [Sample(str(n), q.text, (q.answer, "?"), q.kind) for n, q in enumerate(scene.questions)]
    found = tiles.measure(reader, scene.image, samples)
    assert [one["sample"] for one in found] == [sample.name for sample in samples]
    for one, sample in zip(found, samples, strict=True):
        assert one["grid"] == [1, 3]
        assert one["answer"] == sample.answers[0]
        for name in ("saliency", "relevance", "density", "weight", "log_without", "right_without"):
            assert len(one[name]) == 3
        assert sum(one["weight"]) == pytest.approx(1, abs=1e-3)
    saliency, relevance = ([one[name] for one in found] for name in ("saliency", "relevance"))
    assert all(a == b for a, b in itertools.pairwise(saliency)), "no question is asked of saliency"
    assert len({tuple(one) for one in relevance}) > 1


def test_what_stands_in_the_patches_of_a_scene() -> None:
    scene = scenes.make(10_001, kind="board", size=(384, 384))
    seen = make_seen(2, 2, 8, (0, 0))
    found: Any = shown(scene, seen.grid)
    assert found.count == len(scene.items)
    assert found.foreground.shape == (5, 64)
    for item in scene.items:
        for box, label in ((item.icon_box, False), (item.label_box, True)):
            x, y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
            tile, patch = 1 + y // 192 * 2 + x // 192, y % 192 // 24 * 8 + x % 192 // 24
            assert found.foreground[tile, patch]
            assert (found.digit[tile, patch] >= 0) == label
            if label:
                assert found.digit[tile, patch] == int(item.text[1])
    assert 0.02 < found.foreground[1:].float().mean() < 0.5


def test_only_of_scenes_in_tiles_is_it_known_what_stands_where() -> None:
    asked = samples.asked(task.load("board"), limit=1)
    grid = make_seen(2, 2, 8).grid
    assert foreground.of(asked, asked.pictures[0], grid) is not None
    assert foreground.of(asked, asked.pictures[0], dataclasses.replace(grid, tiles=(0, 0))) is None
    elsewhere = dataclasses.replace(asked.task, splits={"held-out": "questions.jsonl"})
    assert foreground.of(dataclasses.replace(asked, task=elsewhere), asked.pictures[0], grid) is None
