from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen
from torch import Tensor

from herovlm.errors import MethodError
from herovlm.methods.hired import Hired
from herovlm.types import Seen

HIRED, PAPER, OFFICIAL = Hired(), Hired(variant="paper"), Hired(variant="official")


def looked_at(content: Tensor, rows: int, cols: int, pad: tuple[int, int] = (0, 0)) -> Seen:
    """A canvas whose thumbnail's early CLS row is `content`, (side, side)."""
    seen = make_seen(rows, cols, len(content), pad)
    early = seen.attention[0].clone()
    early[0] = content.flatten()
    early[1:] = early[1:].flip(-1)  # the tiles' own early rows must not count
    return dataclasses.replace(seen, attention={**seen.attention, 0: early})


def test_it_asks_for_an_early_and_a_late_block() -> None:
    assert HIRED.needs(24).attention == (0, 22)
    assert not Hired(content_layer=3, token_layer=1).needs(24).cls
    assert Hired(content_layer=3, token_layer=1).needs(24).attention == (3, 1)


def test_tiles_weigh_as_much_as_the_thumbnail_looks_at_what_they_show() -> None:
    content = torch.ones(6, 6)
    content[3:, :3] = 3  # what the lower left tile shows
    seen = looked_at(content, 2, 2)
    for method in (HIRED, PAPER):
        assert method.keep(seen, 60).why["weight"].tolist() == pytest.approx([0, 1 / 6, 1 / 6, 1 / 2, 1 / 6])
    assert HIRED.keep(seen, 60, "none").granted.tolist() == [30, 5, 5, 15, 5]


def test_padding_moves_what_a_tile_shows() -> None:
    content = torch.zeros(6, 6)
    content[:, :1] = 1  # the left sixth of the picture
    seen = looked_at(content, 1, 3, (0, 4))  # 18 columns of canvas, the picture in columns 4 to 13
    assert HIRED.keep(seen, 40).why["weight"].tolist() == pytest.approx([0, 1, 0, 0])
    content = torch.zeros(6, 6)
    content[:, 2:4] = 1  # the third in the middle, columns 7 to 10 of the canvas: all in the second tile
    assert HIRED.keep(looked_at(content, 1, 3, (0, 4)), 40).why["weight"].tolist() == pytest.approx([0, 0, 1, 0])
    content = torch.zeros(6, 6)
    content[:, 1] = 1  # columns 5 and 6: by the canvas the first tile, by the picture the second
    weights = [m.keep(looked_at(content, 1, 3, (0, 4)), 40, share=0.4).why["weight"].tolist() for m in (HIRED, PAPER)]
    assert weights == [[0, 0, 1, 0], [0, 1, 0, 0]]


@pytest.mark.parametrize(("alpha", "first"), [(0.0, 0), (0.25, 10), (0.5, 20), (1.0, 36)])
def test_alpha_is_the_share_of_the_thumbnail_and_overflow_goes_on(alpha: float, first: int) -> None:
    kept = Hired(alpha=alpha).keep(make_seen(2, 2, 6, newlines=False), 40)
    assert kept.granted[0] == first
    assert kept.positions == 40


def test_one_tile_gets_everything() -> None:
    seen = make_seen(0, 0, 6)
    for method in (HIRED, PAPER, OFFICIAL):
        assert method.keep(seen, 9, share=0.25).granted.tolist() == [9]


def test_each_tile_keeps_what_the_late_block_looks_at() -> None:
    seen = make_seen(1, 2, 5, newlines=False)
    kept = HIRED.keep(seen, 30)
    for mask, score in zip(kept.mask, seen.attention[4].mean(1), strict=True):
        assert score[mask].min() > score[~mask].max()


def test_the_code_counts_cells_in_strips() -> None:
    content = torch.zeros(4, 4)
    content[0] = torch.tensor([8, 8, 1, 1])  # 18 of the attention, 4 of the best 8 cells, all in the first strip
    content[2] = torch.tensor([0.5, 0.6, 0.7, 0.8])  # 2.6, the other 4, all in the third
    weights = [m.keep(looked_at(content, 2, 2), 40, share=0.5).why["weight"].tolist() for m in (PAPER, OFFICIAL)]
    assert weights[0] == pytest.approx([0, 16 / 20.6, 2 / 20.6, 1.1 / 20.6, 1.5 / 20.6])
    assert weights[1] == pytest.approx([0, 0.5, 0, 0.5, 0])


def test_the_authors_rounding_spends_a_share_of_all_patches_and_loses_the_rest() -> None:
    content = torch.tensor([[0.4, 0.3], [0.2, 0.1]]).repeat_interleave(3, 0).repeat_interleave(3, 1)
    seen = looked_at(content, 2, 2, (2, 0))
    for method in (PAPER, OFFICIAL):
        kept = method.keep(seen, 50, share=0.3)  # int(180 * 0.3) = 54: 27 and 27
        assert not method.exact
        assert not kept.newlines.any()
        assert kept.granted[0] == 27
        assert kept.positions < 54
        assert not (kept.mask & ~seen.valid).any()
    whole = dataclasses.replace(seen, valid=torch.ones_like(seen.valid))
    assert PAPER.keep(whole, 50, share=0.3).granted.tolist() == [27, 10, 8, 5, 2]  # 27 * .4, .3, .2, .1 rounded down


def test_what_the_thumbnail_cannot_take_goes_to_the_tiles() -> None:
    kept = PAPER.keep(looked_at(torch.ones(6, 6), 2, 2), 100, share=0.6)  # int(180 * 0.6) = 108, half of it is 54
    assert kept.granted.tolist() == [36, 18, 18, 18, 18]


def test_alpha_has_a_range() -> None:
    with pytest.raises(MethodError, match="expected 0 <= alpha <= 1"):
        Hired(alpha=1.5)
