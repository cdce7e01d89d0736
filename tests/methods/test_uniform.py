from __future__ import annotations

import pytest
import torch
from grids import make_seen
from torch import Tensor

from herovlm.methods.uniform import Uniform
from herovlm.ops import spread

SIZES = [(6, 6), (12, 12), (24, 48), (7, 31), (1, 9), (48, 24)]


def lattice(ok: Tensor, count: int) -> Tensor:
    rows, columns = (line.nonzero()[:, 0].tolist() for line in (ok.any(1), ok.any(0)))
    frame = range(rows[0], rows[-1] + 1), range(columns[0], columns[-1] + 1)
    return spread.lattice(ok, int(ok.sum()), frame, count)


def counts(h: int, w: int) -> list[int]:
    return sorted({1, 2, 3, h * w // 20 + 1, h * w // 7, h * w // 3, h * w // 2, h * w - 1, h * w} - {0})


def holes(kept: Tensor) -> Tensor:
    """Distance of every cell from the nearest kept one."""
    cells, grid = kept.nonzero().double(), torch.ones_like(kept).nonzero().double()
    return torch.cdist(grid, cells).amin(1)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_no_hole_is_larger_than_even_spacing_leaves(size: tuple[int, int]) -> None:
    h, w = size
    for count in counts(h, w):
        kept = lattice(torch.ones(h, w, dtype=torch.bool), count)
        assert kept.sum() == count
        across = max(h / min(h, count), (h * w / count) ** 0.5, w / min(w, count))  # of one point's share
        assert holes(kept).max() <= across + 1, count


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_part_of_the_map_gets_its_share(size: tuple[int, int]) -> None:
    h, w = size
    for count in counts(h, w):
        kept = lattice(torch.ones(h, w, dtype=torch.bool), count)
        for axis, length in ((0, h), (1, w)):
            half = kept.narrow(axis, 0, length // 2).sum()
            border = 1 + max(kept.sum(axis).max(), kept.sum(1 - axis).max())  # one row or column of points
            assert abs(int(half) - count * (length // 2) / length) <= border


@pytest.mark.parametrize(("side", "points"), [(24, 1), (24, 2), (24, 3), (24, 4), (24, 6), (24, 8), (24, 12), (6, 6)])
def test_where_it_divides_rows_and_columns_are_equally_far_apart(side: int, points: int) -> None:
    kept = lattice(torch.ones(side, side, dtype=torch.bool), points**2)
    rows, columns = kept.any(1).nonzero()[:, 0], kept.any(0).nonzero()[:, 0]
    assert rows.tolist() == columns.tolist()
    assert set(rows.diff().tolist()) <= {side // points}
    assert kept.sum() == len(rows) * len(columns)


@pytest.mark.parametrize("size", [(24, 48), (15, 21), (7, 31)], ids=str)
def test_a_mirrored_map_is_covered_alike(size: tuple[int, int]) -> None:
    h, w = size
    for count in counts(h, w)[:-2]:
        kept = lattice(torch.ones(h, w, dtype=torch.bool), count)
        for axis in (0, 1):
            moved = torch.cdist(kept.nonzero().double(), kept.flip(axis).nonzero().double()).amin(1)
            assert moved.max() <= (h * w / count) ** 0.5 / 2 + 2**0.5  # ties: a point between cells, one more in a row


def test_a_map_with_holes_is_covered_too() -> None:
    ok = torch.rand(12, 17, generator=torch.Generator().manual_seed(3)) < 0.5
    for count in (1, 9, int(ok.sum()) - 1, int(ok.sum())):
        kept = lattice(ok, count)
        assert kept.sum() == count
        assert not (kept & ~ok).any()
    assert holes(lattice(ok, 12)).max() < 2 * (12 * 17 / 12) ** 0.5


def test_thumbnail_and_canvas_keep_the_same_share_and_tiles_have_no_borders() -> None:
    seen = make_seen(2, 3, 12, (4, 0))
    kept = Uniform().keep(seen, round(0.25 * int(seen.valid.sum())))
    share = kept.mask[0].sum() / seen.valid[0].sum()
    assert abs(float(share) - 0.25) < 0.01
    assert (kept.granted[1:] / seen.valid[1:].sum(1) - 0.25).abs().max() < 0.07
    canvas = seen.grid.canvas(kept.mask[1:])  # (24, 36), 4 rows of padding at each end
    whole = torch.ones(16, 36, dtype=torch.bool)
    assert canvas[4:20].equal(lattice(whole, int(canvas.sum())))


def test_nothing_that_was_seen_has_a_say() -> None:
    assert Uniform().keep(make_seen(2, 2, 6), 40).mask.equal(Uniform().keep(make_seen(2, 2, 6, seed=9), 40).mask)
