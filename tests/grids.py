"""Hand-made geometry for tests: what a family would find by asking the model, from four numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from herovlm.types import Grid, Needs, Seen


def make_grid(
    rows: int, cols: int, side: int, sent: Tensor | None = None, newlines: bool = True, overview: bool = True
) -> Grid:
    """Overview first, then the canvas of rows x cols tiles row by row, a newline after each canvas row."""
    tiles, patches = overview + rows * cols, side * side
    row = torch.full((tiles, patches), -1)
    order = list(range(overview * patches))
    for r in range(rows * side):
        for c in range(cols * side):
            tile, patch = overview + (r // side) * cols + c // side, (r % side) * side + c % side
            order.append(tile * patches + patch)
            row[tile, patch] = r if newlines else -1
        if newlines:
            order.append(-1 - r)
    count = rows * side if newlines else 0
    sent = torch.ones(count, dtype=torch.bool) if sent is None else sent
    return Grid((rows, cols), side, torch.tensor(order), row, sent, overview)


def make_seen(
    rows: int,
    cols: int,
    side: int,
    pad: tuple[int, int] = (0, 0),
    cells: tuple[Sequence[int], Sequence[int]] | None = None,
    overview: bool | tuple[int, int] = True,
    newlines: bool = True,
    *,
    seed: int = 0,
    needs: Needs | None = None,
    depth: int = 6,
    heads: int = 2,
    channels: int = 8,
) -> Seen:
    """Random signals on a canvas that lost `pad` patches at top and bottom, left and right.

    `cells` are the heights of each row of tiles and the widths of each column, where they are smaller than the side;
    `overview` may be the height and width of one that is.
    """
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    tiles, patches = bool(overview) + rows * cols, side * side
    canvas = torch.zeros(rows * side, cols * side, dtype=torch.bool)
    canvas[pad[0] : rows * side - pad[0], pad[1] : cols * side - pad[1]] = True
    if cells is not None:
        high, wide = (torch.cat([torch.arange(side) < size for size in sizes]) for sizes in cells)
        canvas &= high[:, None] & wide
    local = canvas.view(rows, side, cols, side).transpose(1, 2).reshape(rows * cols, patches)
    whole = torch.zeros(int(bool(overview)), side, side, dtype=torch.bool)
    high, wide = overview if isinstance(overview, tuple) else (side, side)
    whole[:, :high, :wide] = True
    valid = torch.cat([whole.flatten(1), local])
    grid = make_grid(rows, cols, side, canvas.any(1) if newlines else None, newlines, bool(overview))
    every = tuple(range(depth))
    needs = needs or Needs(
        every, True, "tower", affinity=True, dots=True, keys=every, queries=every, received=every, hidden=True
    )
    rows_of = {b: (2 * draw(tiles, heads, patches + 1)).softmax(-1)[..., 1:] for b in needs.attention}
    return Seen(
        grid,
        valid,
        features=draw(tiles, patches, channels) * valid[..., None],
        attention=rows_of,
        cls=draw(tiles, channels) if needs.cls else None,
        relevance=torch.rand(tiles, generator=g) / 4 if needs.relevance else None,
        affinity=draw(tiles, patches).tanh() / 4 if needs.affinity else None,
        keys={b: draw(tiles, patches, 4 * heads) for b in needs.keys},
        queries={b: draw(tiles, 2, 4 * heads) for b in needs.queries},
        received={b: draw(tiles, patches).softmax(-1) * patches for b in needs.received},
        hidden=draw(tiles, patches, channels) if needs.hidden else None,
        words={kind: draw(5, channels) for kind in needs.words},
        newline=draw(channels) if newlines else None,
        dots=4 * draw(tiles, patches) if needs.dots else None,
        probe=(2 * draw(tiles, heads, patches)).softmax(-1) if needs.probe else None,
        depth=depth,
        heads=heads,
    )
