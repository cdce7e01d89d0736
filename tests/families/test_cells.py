"""What an encoder gave, laid out in cells: by index, image by image, and nothing where nothing is sent."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from herovlm.families import cells
from herovlm.geometry import Geometry
from herovlm.prompt import positions
from herovlm.types import Grid


def picture(shape: tuple[int, int], side: int, valid: Tensor, source: Tensor | None) -> Geometry:
    """An image of tiles without newlines and without an overview."""
    count = valid.numel()
    grid = Grid(shape, side, torch.arange(count), torch.full(valid.shape, -1), torch.zeros(0, dtype=torch.bool), False)
    return Geometry(grid, valid, source=source)


def windows() -> list[Geometry]:
    """Two pictures of 2 x 3 and 1 x 2 positions in windows of 2 x 2: the cells at the right are not there."""
    wide = torch.tensor([[True] * 4, [True, False, True, False]])
    thin = torch.tensor([[True, True, False, False]])
    return [
        picture((1, 2), 2, wide, torch.tensor([0, 1, 3, 4, 2, 0, 5, 0])),
        picture((1, 1), 2, thin, torch.tensor([1, 0, 0, 0])),
    ]


def given(rows: int, **more: Any) -> cells.Given:
    number = torch.arange(1.0, rows + 1)
    return cells.Given(
        features=number.view(1, rows, 1).expand(1, rows, 5),
        states=None,
        single={"cls": None, "hidden": number.view(1, rows, 1)},
        maps={"attention": {2: number.expand(1, 3, rows)}, "received": {0: number[None]}},
        beside=[-number.view(1, rows, 1)],
        **more,
    )


def test_a_packed_sequence_lies_in_windows() -> None:
    look = cells.laid_out(windows(), given(8), {"depth": 3, "heads": 3})
    want = [torch.tensor([[1.0, 2, 4, 5], [3, 0, 6, 0]]), torch.tensor([[8.0, 7, 0, 0]])]
    for seen, cell in zip(look.seen, want, strict=True):
        assert torch.equal(seen.features[..., 0], cell)
        assert torch.equal(seen.hidden[..., 0], cell)
        assert torch.equal(seen.received[0], cell)
        assert torch.equal(seen.attention[2], cell[:, None].expand(-1, 3, -1))
    flat = torch.cat([cell.flatten() for cell in want])
    assert look.cells == (0, 8)
    assert look.starts == (0, 2)
    assert torch.equal(look.features[:, 0], flat)
    assert torch.equal(look.beside[0][:, 0], -flat)


def test_tiles_in_another_order_take_their_cls_along() -> None:
    tiles, patches = 3, 4
    source = torch.arange(tiles * patches).view(tiles, patches).roll(1, 0).flatten()
    image = picture((1, 3), 2, torch.ones(tiles, patches, dtype=torch.bool), source)
    keys = torch.arange(float(tiles * (1 + patches))).view(tiles, 1 + patches, 1)
    own = cells.Given(
        features=keys[:, 1:],
        states=None,
        single={"cls": keys[:, 0]},
        maps={"keys": {1: keys[:, 1:]}, "queries": {1: keys[:, :2]}},
    )
    (seen,) = cells.laid_out([image], own, {}).seen
    assert torch.equal(seen.keys[1], keys[:, 1:].roll(1, 0))
    assert torch.equal(seen.queries[1], keys[:, :2].roll(1, 0))
    assert torch.equal(seen.cls, keys[:, 0].roll(1, 0))
    assert torch.equal(seen.features, keys[:, 1:].roll(1, 0))


def test_cells_in_order_are_only_split() -> None:
    image = picture((1, 2), 2, torch.tensor([[True] * 4, [True, False, True, False]]), None)
    features = torch.arange(1.0, 17).view(4, 4, 1)
    look = cells.laid_out([image, image], cells.Given(features, None, {}, {"received": {0: features[..., 0]}}), {})
    blank = torch.tensor([0, 0, 0, 0, 0, 1, 0, 1.0]).bool()
    assert torch.equal(look.seen[1].features.flatten(), features[2:].flatten().masked_fill(blank, 0))
    assert torch.equal(look.seen[1].received[0], features[2:, :, 0])
    assert look.cells == (0, 8)
    assert look.starts == (0, 2)


@pytest.mark.parametrize("left", [True, False])
def test_numbers_of_several_axes_are_gathered(left: bool) -> None:
    numbers = torch.arange(3 * 2 * 4).view(3, 2, 4)
    one = [-1, -1, 1] if left else [1, 4, 4]
    stay = positions.Stay(torch.tensor([[0, 2, 3], one]), (3, 1), left)
    assert [own.tolist() for own in stay.rows] == [[0, 2, 3], [1]]
    short = positions.gather(numbers, stay, -1)
    assert short.shape == (3, 2, 3)
    for axis in range(3):
        assert torch.equal(short[axis], positions.gather(numbers[axis], stay, -1))
    assert short[1, 1].tolist() == ([-1, -1, 13] if left else [13, -1, -1])
