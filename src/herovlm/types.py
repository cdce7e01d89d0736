"""The records that flow through the library; every shape is written here, once.

Letters: T tiles, K of them local (tile 0 is the overview, the whole picture small, unless there is none: K = T), N
patches a tile, H heads, D channels, R newline rows; inside the language model n columns of a prompt, V visual positions
among them, Q text tokens behind the first image, G key/value heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

Newlines = Literal["touched", "all", "none", "canvas"]
Relevance = Literal["tower", "clip"]
Words = Literal["keywords", "all"]  # of the question
Signal = Literal["cls", "received", "probe"]  # whose attention patches are scored by
Compared = Literal["tower", "clip", "dots"]  # how picture and question are: a cosine of either kind, or a plain product


Tiled = TypeVar("Tiled", Tensor, tuple[int, ...], list[Any])  # something of each of the T tiles, in their order


@dataclass(frozen=True)
class Grid:
    """Where every visual position of one image comes from.

    `order` lists all slots of the *padded* canvas as the model would lay them out: a value >= 0 is the flat patch
    `tile * N + patch`, a value -1 - r is the newline that closes row r.  `sent` says which newlines the untouched
    model sends (its un-padding drops rows).  Models without newlines have R = 0.  A tile with fewer than side * side
    patches has the others at its right and bottom, and they are not valid.
    """

    tiles: tuple[int, int]  # rows, columns of local tiles; (0, 0) when there is only the overview
    side: int  # patches a side of one tile; N = side * side
    order: Tensor  # (T * N + R,) int64
    row: Tensor  # (T, N) int64: newline row that a patch stands in, -1 = none (overview)
    sent: Tensor  # (R,) bool
    overview: bool = True  # whether tile 0 shows the whole picture, and the local tiles come behind it
    squeezed: bool = (
        False  # whether the picture fills what is valid, its aspect not kept; else it is centred on the canvas
    )

    @property
    def lead(self) -> int:
        """Tiles before the local ones: 1, the overview, or 0."""
        return int(self.overview)

    def whole(self, tiles: Tiled) -> Tiled:
        """Return what belongs to the overview: (T, ...) -> (1, ...), or (0, ...) where there is none."""
        return tiles[: self.lead]

    def local(self, tiles: Tiled) -> Tiled:
        """Return what belongs to the local tiles: (T, ...) -> (K, ...)."""
        return tiles[self.lead :]

    @property
    def rows(self) -> int:
        """Number of newline rows R of the padded canvas."""
        return self.sent.numel()

    def canvas(self, local: Tensor) -> Tensor:
        """Lay local tiles (K, N) side by side: (rows * side, columns * side)."""
        (rows, cols), side = self.tiles, self.side
        return local.view(rows, cols, side, side).transpose(1, 2).reshape(rows * side, cols * side)

    def cut(self, canvas: Tensor) -> Tensor:
        """Cut a canvas (rows * side, columns * side) into local tiles (K, N)."""
        (rows, cols), side = self.tiles, self.side
        return canvas.view(rows, side, cols, side).transpose(1, 2).reshape(rows * cols, side * side)

    def on_slots(self, patches: Tensor, newlines: Tensor) -> Tensor:
        """Lay a (T, N) bool of patches and an (R,) bool of newlines out over the slots of `order`."""
        flat = torch.cat((patches.flatten(), newlines.flip(0)))  # newline r is reached by index -1 - r
        return flat[self.order]


@dataclass(frozen=True, eq=False)
class Counts:
    """What the host knows of one image: how many positions the untouched model sends."""

    valid: Tensor  # (T, N) bool: the very tensor that was counted
    room: tuple[int, ...]  # valid patches of each of the T tiles
    newlines: int  # that are sent
    rows: Sequence[int] = range(0)  # of the canvas of local tiles, counted in patches: those with a valid one in them
    columns: Sequence[int] = range(0)
    overview: tuple[Sequence[int], Sequence[int]] = (range(0), range(0))  # rows and columns of tile 0, likewise

    @classmethod
    def read(cls, grid: Grid, valid: Tensor) -> Counts:
        """Count on the device, and let the host wait for it."""
        canvas, whole = grid.canvas(grid.local(valid)), grid.whole(valid).view(-1, grid.side)
        parts = [valid.sum(1), grid.sent.sum()[None], canvas.any(1), canvas.any(0), whole.any(1), whole.any(0)]
        read = torch.split(torch.cat(parts).cpu(), [len(part) for part in parts])
        rows, columns, *overview = map(_lines, read[2:])
        return cls(valid, tuple(read[0].tolist()), int(read[1]), rows, columns, (overview[0], overview[1]))

    @property
    def patches(self) -> int:
        """Valid patches of all tiles."""
        return sum(self.room)

    @property
    def positions(self) -> int:
        """Valid patches and newlines."""
        return self.patches + self.newlines

    def frames(self, grid: Grid) -> list[tuple[range, range]]:
        """Find the rows and columns of each tile around its valid patches, (T,) pairs."""
        side, (rows, columns) = grid.side, grid.tiles
        down = [_around([y - at for y in self.rows if at <= y < at + side]) for at in range(0, rows * side, side)]
        across = [
            _around([x - at for x in self.columns if at <= x < at + side]) for at in range(0, columns * side, side)
        ]
        high, wide = self.overview
        return [(_around(high), _around(wide))] * grid.lead + [*product(down, across)]


def _lines(line: Tensor) -> Sequence[int]:
    """List the places that are True, (n,) on the host; as a range where they are neighbours."""
    there = [place for place, one in enumerate(line.tolist()) if one]
    around = _around(there)
    return around if len(around) == len(there) else tuple(there)


def _around(lines: Sequence[int]) -> range:
    """Return the range from the first to the last of some ascending numbers."""
    return range(lines[0], lines[-1] + 1) if lines else range(0)


@dataclass(frozen=True)
class Needs:
    """What a method wants recorded while the vision tower runs (it never asks for model types)."""

    attention: tuple[int, ...] = ()  # blocks, counted from 0, whose CLS rows are wanted
    cls: bool = False  # CLS state after the last block
    relevance: Relevance | None = None  # tile-question cosine from the tower itself, or from the original CLIP
    affinity: bool = False  # patch-question cosine, from the tower itself
    dots: bool = False  # patch-question product, of what the projector reads of the tower
    keys: tuple[int, ...] = ()  # blocks whose keys of the patches are wanted
    queries: tuple[int, ...] = ()  # blocks whose query and key of the CLS token are wanted
    received: tuple[int, ...] = ()  # blocks whose attention received by each patch is wanted (forms N x N maps)
    probe: bool = False  # attention that the pooling head behind the last block pays, where a tower has one
    hidden: bool = False  # states of the patches before the projector, for methods that merge there
    words: tuple[Words, ...] = ()  # which words of the question are wanted as the language model reads them
    layers: tuple[tuple[int, ...], ...] = ()  # groups of entries of hidden_states whose mean states are wanted

    ALL: ClassVar[frozenset[str]] = frozenset(
        {
            "attention",
            "cls",
            "relevance",
            "affinity",
            "dots",
            "keys",
            "queries",
            "received",
            "probe",
            "hidden",
            "layers",
        }
    )  # names of what a tower may be asked for; features and words come from elsewhere

    @property
    def signals(self) -> frozenset[str]:
        """Names of what is asked of the tower."""
        return frozenset(name for name in self.ALL if getattr(self, name))

    @property
    def question(self) -> bool:
        """Whether the question counts."""
        return self.relevance is not None or self.affinity or self.dots or bool(self.words)


class Narrow(NamedTuple):
    """Where a tower is cut, and how much of it goes on."""

    block: int  # the last one that sees all patches
    share: float  # of the N patches of a tile


@dataclass(frozen=True)
class Seen:
    """What the vision tower saw in one image."""

    grid: Grid
    valid: Tensor  # (T, N) bool: patches that the untouched model sends (not wholly padding)
    features: Tensor | None = None  # (T, N, D) after the projector, as the LLM reads them; zero where not valid
    attention: Mapping[int, Tensor] = field(default_factory=dict)  # block -> (T, H, N) float32 rows, no CLS key
    cls: Tensor | None = None  # (T, D) CLS state after the last block, before any post-layernorm
    relevance: Tensor | None = None  # (T,) cosine of tile and question in CLIP space; may be None when T = 1
    affinity: Tensor | None = None  # (T, N) cosine of each patch's last state and the question in CLIP space
    dots: Tensor | None = None  # (T, N) product of patch and question in CLIP space, of the states in `hidden` and with
    # neither normalised
    keys: Mapping[int, Tensor] = field(
        default_factory=dict
    )  # block -> (T, N, C) keys of the patches, as they meet queries
    queries: Mapping[int, Tensor] = field(default_factory=dict)  # block -> (T, 2, C) query and key of the CLS token
    received: Mapping[int, Tensor] = field(default_factory=dict)  # block -> (T, N) attention from all patches
    probe: Tensor | None = None  # (T, H, N) float32 rows of the pooling head's query, behind the last block
    hidden: Tensor | None = None  # (T, N, C) before the projector
    layers: Tensor | None = None  # (T, K, 1 + N, C) mean states of K groups of layers, CLS first
    words: Mapping[Words, Tensor] = field(default_factory=dict)  # kind -> (m, D) input embeddings of the LLM
    newline: Tensor | None = None  # (D,) embedding that closes a row, as the LLM reads it; None where there is none
    through: Tensor | None = None  # (T, N) bool: the valid patches that went through a narrowed tower; None = all.
    # What is recorded behind the cut is 0 for the others, and so are features; `valid` and `positions` do not change.
    resized: int | None = None  # positions of the picture as it came, where all else here is of a smaller one
    depth: int = 0  # blocks of the vision tower, so that relative layers can be resolved
    heads: int = 0  # attention heads of the vision tower
    counted: Counts | None = None  # of `valid` and `grid.sent`, if the host knows

    @property
    def counts(self) -> Counts:
        """How many positions there are, as numbers; what the host does not know yet is read from the device, once."""
        known = self.counted
        return known if known is not None and known.valid is self.valid else self._read

    @cached_property
    def _read(self) -> Counts:
        return Counts.read(self.grid, self.valid)

    @property
    def positions(self) -> int:
        """Visual positions the untouched model sends for this image, as it came, newlines included."""
        return self.counts.positions if self.resized is None else self.resized

    @property
    def slots(self) -> Tensor:
        """What the untouched model sends, in order, as in `Grid.order`: (positions,) int64."""
        return self.grid.order[self.grid.on_slots(self.valid, self.grid.sent)]


@dataclass(frozen=True)
class Kept:
    """What a method kept of one image; the record that pictures and reports read."""

    mask: Tensor  # (T, N) bool
    newlines: Tensor  # (R,) bool
    features: Tensor | None = None  # (n_kept_patches, D): merged features in the order of the mask's True cells
    hidden: Tensor | None = None  # (n_kept_patches, C): the same before the projector; it is projected on the way back
    why: Mapping[str, Tensor] = field(default_factory=dict)  # named scores: (T,) a tile or (T, N) a patch
    spent: int | None = None  # positions, newlines included, if the host knows
    beyond: bool = False  # whether some of the newlines are not sent by the untouched model (its padded canvas)

    @property
    def granted(self) -> Tensor:
        """Kept patches of each tile, (T,) int64."""
        return self.mask.sum(1)

    @property
    def positions(self) -> int:
        """Positions that reach the LLM, newlines included."""
        return int(self.mask.sum() + self.newlines.sum()) if self.spent is None else self.spent


@dataclass(frozen=True)
class Origin:
    """Where every column of a short prompt comes from, each (B, L) int64 as its input_ids; -1 = there is nothing."""

    column: Tensor  # column of the untouched prompt; -1 = padding
    image: Tensor  # number of the image, as in `Short.kept`; -1 = text or padding
    tile: Tensor  # tile of that image; -1 = no patch (a newline has an image and no tile)
    patch: Tensor  # patch of that tile in raster order; -1 = no patch


class Encoded(dict[str, Any]):
    """Encoder outputs of a shortened prompt: told from those of a whole one by their class."""


@dataclass(frozen=True)
class Short(Mapping[str, Any]):
    """Shorter model inputs: a mapping for `model.generate(**short)` or `model(**short)`, with its record beside it."""

    inputs: Mapping[str, Any]
    seen: tuple[Seen, ...]  # one an image, in prompt order
    kept: tuple[Kept, ...]
    where: Callable[[], Sequence[Tensor]] | None = field(default=None, repr=False)  # finds `columns`
    image_token: int | None = None  # token id of the placeholder
    whole: bool = False  # whether nothing was left out

    @cached_property
    def columns(self) -> tuple[Tensor, ...]:
        """For each prompt the columns of the untouched input_ids that are left, ascending; found when first asked."""
        return () if self.where is None else tuple(self.where())

    @cached_property
    def origin(self) -> Origin:
        """The way back from each column of the short prompt to its column, image, tile and patch."""
        ids, mask = self.inputs["input_ids"], self.inputs.get("attention_mask")
        first = [0] * len(ids) if mask is None else (mask != 0).long().argmax(-1).tolist()
        column, image, tile, patch = (torch.full_like(ids, -1) for _ in range(4))
        for row, (start, own) in enumerate(zip(first, self.columns, strict=True)):
            column[row, start : start + len(own)] = own.to(ids.device)
        visual = (ids == self.image_token) & (column >= 0)
        slots = [s.grid.order[s.grid.on_slots(k.mask, k.newlines)] for s, k in zip(self.seen, self.kept, strict=True)]
        if slots:
            side = torch.cat([torch.full_like(o, s.valid.shape[1]) for o, s in zip(slots, self.seen, strict=True)])
            number = torch.cat([torch.full_like(order, i) for i, order in enumerate(slots)])
            order = torch.cat(slots)
            image[visual] = number.to(image)
            tile[visual] = torch.where(order >= 0, order // side, -1).to(image)
            patch[visual] = torch.where(order >= 0, order % side, -1).to(image)
        return Origin(column, image, tile, patch)

    def __getitem__(self, name: str) -> Any:
        value = self.inputs[name]
        if name != "mm_encoder_outputs":
            return value
        # generate() puts repeated features into this output for beams: hand out a fresh one each time
        return Encoded({kind: type(out)(**out) for kind, out in value.items()})

    def __iter__(self) -> Iterator[str]:
        return iter(self.inputs)

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class NeedsInside:
    """What an inside method wants to see before a layer of the language model; `SeenInside` has the shapes."""

    last: bool = False
    text: bool = False
    back: bool = False
    keys: bool = False
    ahead: bool = False
    states: bool = False
    entered: bool = False
    groups: bool = False
    heads: bool = False
    turned: bool = False


@dataclass(frozen=True)
class SeenInside:
    """One prompt as it stands before a layer of the language model; padding is not in it, newlines count as visual."""

    layer: int  # the layer that comes next
    depth: int  # layers of the language model
    visual: Tensor  # (V,) int64, ascending: which of the n columns are visual positions
    image: Tensor  # (V,) int64: which image of the prompt each belongs to, counted from 0
    granted: tuple[int, ...]  # positions that each image may keep from this layer on
    last: Tensor | None = None  # (H, n) attention of the prompt's last token in the layer before
    text: Tensor | None = None  # (Q, n) attention of the text tokens in the layer before, mean of the heads
    back: Tensor | None = None  # (V,) attention that each visual position pays to those text tokens, mean of the heads
    keys: Tensor | None = None  # (G, n, C) keys of the layer before, as its cache holds them
    ahead: tuple[Tensor, Tensor] | None = None  # query (H, C) of the last token and keys (G, n, C) of the layer to come
    states: Tensor | None = None  # (n, D) hidden states that the layer is about to read
    entered: tuple[Tensor, Tensor] | None = None  # states at the entry of the model: all visual positions, (Q, D) text
    groups: Tensor | None = None  # (V,) int64 clusters of the method before; a newline is where the patch before it is
    heads: Tensor | None = None  # (H, Q, n) what `text` is the mean of
    turned: Tensor | None = None  # (n, C) float32: vectors of ones, rotated as queries and keys of each column are


@dataclass(frozen=True)
class Cut:
    """What goes on from a layer of the language model."""

    keep: Tensor  # (K,) int64: which of the V visual positions, image by image, in the order in which they go on
    merged: Tensor | None = None  # (K,) bool: those that get a new state
    weights: Tensor | None = None  # (merged, V): that state, as a weighted sum of the V states
    positions: Literal["true", "before", "after"] = "true"  # or renumbered: the columns as they stood before this cut,
    # whatever comes behind the prompt keeping its number, or as they stand after it, with all that comes behind

    def changes_nothing(self, positions: int) -> bool:
        """Return whether all of so many positions stay as they are."""
        return len(self.keep) == positions and self.merged is None and self.positions == "true"


@dataclass(frozen=True)
class KeptInside:
    """What the layers of the language model kept of one image."""

    positions: tuple[int, ...]  # visual positions in each layer
    kept: Mapping[int, Tensor]  # layer that was cut before -> which of the positions that reached the LLM, ascending
    merged: Mapping[int, Tensor]  # the same layers -> (K,) bool: those that stand for several

    @property
    def mean(self) -> float:
        """Visual positions in a layer, on average."""
        return sum(self.positions) / len(self.positions)
