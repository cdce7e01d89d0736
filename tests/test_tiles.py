from __future__ import annotations

from typing import Any

import pytest
import torch
from grids import make_grid, make_seen

from herovlm.geometry import Geometry, Tile

WHOLE = (0.0, 0.0, 1.0, 1.0)
RAGGED = (2, 3, 4, (0, 0), ((4, 2), (4, 4, 1)), False, False)  # 6 x 9 patches in windows of 4 x 4
EVEN = (2, 2, 4, (0, 0), ((3, 3), (3, 2)), False, False)  # 6 x 5 patches in windows about as large: gaps on the canvas


def geometry(*shape: Any, **how: Any) -> Geometry:
    seen = make_seen(*shape)
    return Geometry(seen.grid, seen.valid, **how)


def test_local_tiles_and_the_overview_part_what_there_is_of_every_tile() -> None:
    with_, without = make_grid(1, 2, 2), make_grid(1, 2, 2, overview=False)
    assert (with_.whole((7, 8, 9)), with_.local((7, 8, 9))) == ((7,), (8, 9))
    assert (without.whole((8, 9)), without.local((8, 9))) == ((), (8, 9))
    for grid, tiles in ((with_, 3), (without, 2)):
        values = torch.arange(4 * tiles).view(tiles, 4)
        assert torch.cat([grid.whole(values), grid.local(values)]).equal(values)
        assert grid.cut(grid.canvas(grid.local(values))).equal(grid.local(values))
        assert len(grid.whole(values)) == grid.lead == int(grid.overview)


def test_one_picture_alone_is_its_own_overview() -> None:
    assert geometry(0, 0, 5).tiles == (Tile(5, 5, WHOLE, "overview"),)


def test_padding_is_no_part_of_a_tile_nor_of_the_picture() -> None:
    whole, *local = geometry(2, 2, 4, (2, 0)).tiles  # 4 x 8 valid patches on a canvas of 8 x 8
    assert whole == Tile(4, 4, WHOLE, "overview")
    assert local == [
        Tile(2, 4, (top, left, top + 0.5, left + 0.5), "crop") for top in (0.0, 0.5) for left in (0.0, 0.5)
    ]


def test_windows_cover_the_picture_without_an_overview() -> None:
    tiles = geometry(*RAGGED, role="window").tiles
    assert [(tile.rows, tile.cols) for tile in tiles] == [(4, 4), (4, 4), (4, 1), (2, 4), (2, 4), (2, 1)]
    assert {tile.role for tile in tiles} == {"window"}
    assert tiles[0].box == (0, 0, pytest.approx(4 / 6), pytest.approx(4 / 9))
    assert tiles[-1].box == (pytest.approx(4 / 6), pytest.approx(8 / 9), 1, 1)


@pytest.mark.parametrize("shape", [RAGGED, EVEN, (1, 1, 4, (0, 0), None, False)])
def test_a_box_is_as_large_as_its_share_of_the_patches(shape: Any) -> None:
    one = geometry(*shape)
    area = [(bottom - top) * (right - left) for _, _, (top, left, bottom, right), _ in one.tiles]
    assert area == pytest.approx([count / one.counts.patches for count in one.counts.room])
    assert [tile.rows * tile.cols for tile in one.tiles] == list(one.counts.room)


def test_an_overview_may_be_smaller_than_the_tiles() -> None:
    one = geometry(1, 2, 4, (0, 0), None, (2, 3))
    assert one.tiles[0] == Tile(2, 3, WHOLE, "overview")
    assert one.counts.overview == (range(2), range(3))
    assert one.counts.room == (6, 16, 16)


def test_a_tile_that_is_all_padding_is_empty() -> None:
    assert [tile[:2] for tile in geometry(1, 2, 4, (2, 0)).tiles] == [(4, 4), (0, 0), (0, 0)]


@pytest.mark.parametrize("shape", [RAGGED, EVEN, (2, 2, 4, (1, 3)), (1, 2, 4, (0, 0), None, (2, 3))])
def test_frames_are_where_patches_are_valid(shape: Any) -> None:
    seen = make_seen(*shape)
    for (rows, cols), valid in zip(seen.counts.frames(seen.grid), seen.valid.view(-1, 4, 4), strict=True):
        there = torch.zeros(4, 4, dtype=torch.bool)
        there[rows.start : rows.stop, cols.start : cols.stop] = True
        assert there.equal(valid)


def test_lines_of_the_canvas_are_those_of_the_picture() -> None:
    assert geometry(*EVEN).counts.rows == (0, 1, 2, 4, 5, 6)
    assert geometry(*EVEN).counts.columns == (0, 1, 2, 4, 5)
    assert geometry(*RAGGED).counts.rows == range(6)
    assert geometry(2, 2, 4, (1, 0)).counts.rows == range(1, 7)
