"""A figure holds every patch once: kept, dropped or padding; and every score where it belongs."""

from __future__ import annotations

import pytest
import torch
from grids import make_seen
from reports import a_kept

from herovlm.types import Kept
from herovlm.viz.figure import KEPT, PICTURE, figure


def test_dropped_and_padded_patches_are_told_apart() -> None:
    seen = make_seen(2, 2, 4, (1, 0))
    kept = a_kept(seen)
    drawing = figure((40, 30), seen, kept)
    assert (drawing.positions, drawing.of) == (kept.positions, seen.positions)
    assert drawing.local is not None
    assert drawing.local.picture.y == pytest.approx(1)
    for panel in drawing.panels:
        assert not (panel.dropped & panel.mask).any()
        assert ((panel.dropped | panel.mask) == panel.valid).all()
    assert (~drawing.local.valid).any(1).tolist() == [True] + [False] * 6 + [True]  # its padding: two rows
    assert drawing.thumbnail.valid.all()
    assert drawing.local.newlines == tuple(range(1, 7))
    assert sum(int(panel.mask.sum()) for panel in drawing.panels) == int(kept.mask.sum())


def test_a_model_with_one_tile_shows_it_large() -> None:
    seen = make_seen(0, 0, 4)
    drawing = figure((40, 30), seen, a_kept(seen), "crop")
    assert drawing.local is None
    assert drawing.panels == (drawing.thumbnail,)
    assert drawing.thumbnail.picture.x < 0
    assert drawing.thumbnail.labels[0].scores == {"weight": "0"}
    assert set(drawing.thumbnail.heat) == {"weight", "score"}


def test_scores_are_known_by_their_shape() -> None:
    seen = make_seen(2, 2, 4)
    scores = {"weight": torch.rand(5), "score": torch.rand(5, 16), "cluster": torch.arange(80).view(5, 16) % 7}
    drawing = figure((40, 40), seen, Kept(seen.valid, seen.grid.sent, why=scores))
    assert dict(drawing.scores) == {"weight": "tile", "score": "patch", "cluster": "group"}
    assert drawing.tile_scores == ("weight",)
    assert "weight" not in drawing.thumbnail.heat  # local tiles are weighed among themselves
    assert [list(label.scores) for label in drawing.labels] == [[]] + [["weight"]] * 4
    assert "local tiles 7 groups" in drawing.says("cluster", "it")


def test_words_say_where_a_score_is_highest() -> None:
    seen = make_seen(2, 3, 4)
    for tile in range(7):
        score = torch.zeros(7, 16)
        score[tile, 6] = 1
        words = figure((60, 40), seen, Kept(seen.valid, seen.grid.sent, why={"s": score})).says("s", "it")
        place = f"tile {tile} (row {(tile - 1) // 3 + 1}, column {(tile - 1) % 3 + 1})"
        assert (place if tile else "the whole picture, row 2, column 3") in words


def test_words_say_how_much_is_kept_and_where() -> None:
    seen = make_seen(1, 2, 2)
    mask = torch.zeros_like(seen.valid)
    mask[0, 0] = mask[2, :3] = True
    words = figure((40, 20), seen, Kept(mask, torch.zeros_like(seen.grid.sent))).says(KEPT, "hero")
    assert words == (
        f"hero keeps 4 of {seen.positions} visual positions: thumbnail gets 1 of 4 patches; "
        "tile 1 (row 1, column 1) gets 0 of 4 patches; tile 2 (row 1, column 2) gets 3 of 4 patches"
    )
    assert "2 local tiles" in figure((40, 20), seen, Kept(mask, seen.grid.sent)).says(PICTURE, "hero")
