"""One picture as one method left it, ready to draw: the canvas of local tiles and the thumbnail beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from herovlm.types import Grid, Kept, Seen
from herovlm.viz import geometry, marks
from herovlm.viz.geometry import Box, Fit, Size


@dataclass(frozen=True)
class Label:
    """A tile: where it stands on its panel (patches), its name and what is written on it."""

    x: int
    y: int
    name: str
    kept: int
    valid: int
    scores: dict[str, str]  # score -> its value for the whole tile


@dataclass(frozen=True)
class Panel:
    """A drawing in patches: the picture in its place, with everything that is laid over it."""

    width: int
    height: int
    side: int
    picture: Box
    unsent: str  # SVG path over the patches that even the untouched model does not send: padding
    dropped: str  # SVG path over the patches that were sent before and are gone now
    outline: str  # SVG path around the kept patches
    newlines: tuple[int, ...]  # rows whose newline is kept
    heat: dict[str, str]  # score -> data URI, one pixel a patch
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Figure:
    """The local tiles (None for models that have only the thumbnail) and the thumbnail."""

    local: Panel | None
    thumbnail: Panel
    positions: int
    of: int
    newlines: int
    scores: tuple[str, ...]  # names, in the method's order
    tile_scores: tuple[str, ...]  # those of them with one value a tile

    @property
    def labels(self) -> tuple[Label, ...]:
        """All tiles, the thumbnail first."""
        return self.thumbnail.labels + (self.local.labels if self.local else ())

    @property
    def alt(self) -> str:
        """What the drawing says, in words."""
        tiles = "; ".join(f"{x.name} {x.kept} of {x.valid} patches" for x in self.labels)
        return f"{self.positions} of {self.of} visual positions kept: {tiles}; {self.newlines} row ends."


def figure(size: Size, seen: Seen, kept: Kept, fit: Fit = "squeeze") -> Figure:
    """Lay out what was kept of a picture of `size` (width, height in pixels).

    Raises:
        InputsError: the masks or scores do not fit the grid.
    """
    grid = seen.grid
    rows, cols = grid.tiles
    mask, valid = kept.mask.cpu(), seen.valid.cpu()
    why = {name: score.detach().float().cpu() for name, score in kept.why.items()}
    maps = {name: _spread(score, valid) for name, score in why.items()}
    labels = _labels(grid.tiles, grid.side, mask, valid, why)
    lines = kept.newlines.nonzero().flatten().tolist() if grid.rows == rows * grid.side else []
    parts = (mask, valid, grid)
    local = None
    if rows * cols:
        local = _panel(geometry.on_canvas(size, grid), geometry.canvas, parts, maps, labels[1:], tuple(lines))
    whole = {name: maps[name] for name in why if why[name].ndim == 2 or not rows * cols}
    thumbnail = _panel(geometry.on_thumbnail(size, grid, fit), geometry.thumbnail, parts, whole, labels[:1], ())
    tile_scores = tuple(name for name, score in why.items() if score.ndim == 1)
    newlines = int(kept.newlines.sum())
    return Figure(local, thumbnail, kept.positions, seen.positions, newlines, tuple(why), tile_scores)


def _panel(
    picture: Box,
    lay: Callable[[Tensor, Grid], Tensor],
    parts: tuple[Tensor, Tensor, Grid],
    scores: dict[str, Tensor],
    labels: tuple[Label, ...],
    newlines: tuple[int, ...],
) -> Panel:
    mask, valid, grid = lay(parts[0], parts[2]), lay(parts[1], parts[2]), parts[2]
    height, width = mask.shape
    heat = {name: marks.heat(lay(score, grid), valid) for name, score in scores.items()}
    unsent, gone, edge = marks.cells(~valid), marks.cells(valid & ~mask), marks.outline(mask)
    return Panel(width, height, grid.side, picture, unsent, gone, edge, newlines, heat, labels)


def _labels(
    tiles: tuple[int, int], side: int, mask: Tensor, valid: Tensor, why: dict[str, Tensor]
) -> tuple[Label, ...]:
    found = []
    for t in range(len(mask)):
        row, col = divmod(t - 1, tiles[1]) if t else (0, 0)
        name = f"tile {t} (row {row + 1}, column {col + 1})" if t else "thumbnail"
        scores = {name: f"{score[t]:.2f}" for name, score in why.items() if score.ndim == 1 and (t or not tiles[1])}
        found.append(Label(col * side, row * side, name, int(mask[t].sum()), int(valid[t].sum()), scores))
    return tuple(found)


def _spread(score: Tensor, valid: Tensor) -> Tensor:
    """Give every patch (T, N) the score of its tile where there is one score a tile (T,)."""
    return score[:, None].expand(valid.shape) if score.ndim == 1 else score
