"""One picture as one method left it, ready to draw: the canvas of local tiles and the thumbnail beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil

from torch import Tensor

from herovlm.types import Grid, Kept, Seen
from herovlm.viz import geometry, units
from herovlm.viz.geometry import Box, Fit, Size
from herovlm.viz.heat import Each, Heat, heat

KEPT, PICTURE = "kept patches", "picture"  # the views that every method has, besides its scores


@dataclass(frozen=True)
class Label:
    """A tile: where it stands on its panel (patches), its name and what is written on it."""

    x: int
    y: int
    name: str
    kept: int
    valid: int
    scores: Mapping[str, str]  # score -> its value for the whole tile


@dataclass(frozen=True)
class Panel:
    """A drawing in patches: the picture in its place, and everything that is laid over it."""

    side: int  # of a tile
    picture: Box
    mask: Tensor  # (h, w) bool: kept
    valid: Tensor  # (h, w) bool: sent by the untouched model; the rest is padding
    newlines: tuple[int, ...]  # rows whose newline is kept
    heat: Mapping[str, Heat]
    labels: tuple[Label, ...]

    @property
    def width(self) -> int:
        """Patches from left to right."""
        return self.mask.shape[1]

    @property
    def height(self) -> int:
        """Patches from top to bottom."""
        return self.mask.shape[0]

    @property
    def dropped(self) -> Tensor:
        """Patches (h, w) that were sent before and are gone now."""
        return self.valid & ~self.mask


@dataclass(frozen=True)
class Figure:
    """The local tiles and the thumbnail; None for models that have only the other."""

    local: Panel | None
    thumbnail: Panel | None
    positions: int
    of: int
    newlines: int
    scores: Mapping[str, Each]  # in the method's order
    resized: bool = False  # whether the model saw a smaller picture than the one that is drawn

    @property
    def panels(self) -> tuple[Panel, ...]:
        """The local tiles first, as they are drawn."""
        return tuple(panel for panel in (self.local, self.thumbnail) if panel is not None)

    @property
    def labels(self) -> tuple[Label, ...]:
        """All tiles, the thumbnail first."""
        return tuple(label for panel in reversed(self.panels) for label in panel.labels)

    @property
    def tile_scores(self) -> tuple[str, ...]:
        """Names of the scores that have one value a tile."""
        return tuple(name for name, each in self.scores.items() if each == "tile")

    def says(self, view: str, who: str) -> str:
        """Describe what a view shows: "kept patches", "picture" or a score."""
        if view == PICTURE:
            count = len(self.local.labels) if self.local else 0
            whole = ", and whole as the thumbnail" if self.thumbnail else ""
            return f"the picture in {count} local tiles{whole}" if count else "the picture"
        if view == KEPT:
            tiles = "; ".join(f"{x.name} gets {x.kept} of {x.valid} patches" for x in self.labels)
            ends = f"; {self.newlines} row ends" if self.newlines else ""
            did = "makes the picture smaller and sends" if self.resized else "keeps"
            return f"{who} {did} {self.positions} of {self.of} visual positions: {tiles}{ends}"
        each = "tile" if self.scores[view] == "tile" else "patch"
        return f"{who}, {view} of every {each}: " + "; ".join(self._heights(view))

    def _heights(self, view: str) -> Iterator[str]:
        """Describe where a score is high, panel by panel."""
        for panel in self.panels:
            if (scale := panel.heat.get(view)) is None:
                continue
            if scale.each == "tile":
                yield from (f"{x.name} {x.scores[view]}" for x in panel.labels if view in x.scores)
            elif scale.each == "group":
                yield f"{'thumbnail' if panel is self.thumbnail else 'local tiles'} {scale.groups} groups"
            elif scale.shown.any():
                top = scale.values.masked_fill(~scale.shown, -float("inf")).argmax()
                row, col = divmod(int(top), panel.width)
                across = ceil(panel.width / panel.side)
                name = panel.labels[row // panel.side * across + col // panel.side].name
                place = f"the whole picture, row {row + 1}, column {col + 1}" if panel is self.thumbnail else name
                yield "from {} to {}, highest in {}".format(*scale.range, place)


def figure(size: Size, seen: Seen, kept: Kept, fit: Fit = "squeeze") -> Figure:
    """Lay out what was kept of a picture of `size` (width, height in pixels).

    Raises:
        InputsError: the masks or scores do not fit the grid.
    """
    grid = seen.grid
    rows, cols = grid.tiles
    mask, valid = kept.mask.cpu(), seen.valid.cpu()
    why = {name: score.detach().cpu() for name, score in kept.why.items()}
    scores: dict[str, Each] = {
        name: "tile" if score.ndim == 1 else "patch" if score.is_floating_point() else "group"
        for name, score in why.items()
    }
    maps = {name: (_spread(score.float(), valid), scores[name]) for name, score in why.items()}
    labels = _labels(grid, mask, valid, why)
    lines = kept.newlines.nonzero().flatten().tolist() if grid.rows == rows * grid.side else []
    parts = (mask, valid, grid)
    local = thumbnail = None
    if rows * cols:
        place = geometry.on_canvas(size, grid, seen.counts)
        local = _panel(
            place, partial(geometry.shown, counts=seen.counts), parts, maps, labels[grid.lead :], tuple(lines)
        )
        maps = {name: pair for name, pair in maps.items() if pair[1] != "tile"}  # tiles are weighed among themselves
    if grid.overview:
        place = geometry.on_thumbnail(size, grid, fit, seen.counts)
        thumbnail = _panel(place, geometry.thumbnail, parts, maps, labels[:1], ())
    counts = (kept.positions, seen.positions, int(kept.newlines.sum()))
    return Figure(local, thumbnail, *counts, scores, resized=seen.resized is not None)


def _panel(
    picture: Box,
    lay: Callable[[Tensor, Grid], Tensor],
    parts: tuple[Tensor, Tensor, Grid],
    scores: Mapping[str, tuple[Tensor, Each]],
    labels: tuple[Label, ...],
    newlines: tuple[int, ...],
) -> Panel:
    mask, valid, grid = lay(parts[0], parts[2]), lay(parts[1], parts[2]), parts[2]
    maps = {name: heat(lay(score, grid), valid, each) for name, (score, each) in scores.items()}
    return Panel(grid.side, picture, mask, valid, newlines, maps, labels)


def _labels(grid: Grid, mask: Tensor, valid: Tensor, why: Mapping[str, Tensor]) -> tuple[Label, ...]:
    written = {name: units.alike(score.tolist()) for name, score in why.items() if score.ndim == 1}
    found = []
    for t in range(len(mask)):
        local = t >= grid.lead
        row, col = divmod(t - grid.lead, grid.tiles[1]) if local else (0, 0)
        name = f"tile {t + 1 - grid.lead} (row {row + 1}, column {col + 1})" if local else "thumbnail"
        scores = {name: values[t] for name, values in written.items()} if local or not grid.tiles[1] else {}
        found.append(Label(col * grid.side, row * grid.side, name, int(mask[t].sum()), int(valid[t].sum()), scores))
    return tuple(found)


def _spread(score: Tensor, valid: Tensor) -> Tensor:
    """Give every patch (T, N) the score of its tile where there is one score a tile (T,)."""
    return score[:, None].expand(valid.shape) if score.ndim == 1 else score
