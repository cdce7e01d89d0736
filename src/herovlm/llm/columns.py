"""Which columns of a prompt a segment of layers works on: prompts as they enter, and what a cut leaves of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from herovlm.prompt import positions
from herovlm.types import Cut, Kept, Seen, Short


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts as they enter the language model."""

    ids: Tensor  # (B, L)
    real: Tensor  # (B, L) bool: not padding
    image: Tensor  # (B, L) int64: image of the prompt whose position this is, counted from 0; -1 is text
    groups: Tensor | None  # (B, L) int64: cluster that the method before gave
    counts: tuple[tuple[int, ...], ...]  # positions of each image of each prompt
    left: bool  # padding side

    def times(self, count: int) -> Prompts:
        """Repeat each prompt, as generate() does for beams and return sequences."""
        groups = None if self.groups is None else self.groups.repeat_interleave(count, 0)
        ids, real, image = (x.repeat_interleave(count, 0) for x in (self.ids, self.real, self.image))
        return Prompts(ids, real, image, groups, tuple(c for c in self.counts for _ in range(count)), self.left)

    def to(self, device: torch.device) -> Prompts:
        """Move beside the states."""
        groups = None if self.groups is None else self.groups.to(device)
        ids, real, image = (x.to(device) for x in (self.ids, self.real, self.image))
        return Prompts(ids, real, image, groups, self.counts, self.left)


def prompts_of(short: Short, config: Any) -> Prompts:
    """Read what reaches the language model off the record of a shorter prompt."""
    prompt = positions.prompt_of(short.inputs, config)
    rows_of = positions.rows_of(prompt, [kept.positions for kept in short.kept])
    counts: list[list[int]] = [[] for _ in prompt.ids]
    numbers = []
    for row, kept in zip(rows_of, short.kept, strict=True):
        numbers += [len(counts[row])] * kept.positions
        counts[row].append(kept.positions)
    rows, cols = prompt.placeholders.unbind(1)
    image = torch.full_like(prompt.ids, -1)
    image[rows, cols] = torch.tensor(numbers, dtype=image.dtype)
    groups = None
    if all("cluster" in kept.why for kept in short.kept):
        groups = torch.full_like(prompt.ids, -1)
        labels = [_labels(seen, kept) for seen, kept in zip(short.seen, short.kept, strict=True)]
        groups[rows, cols] = torch.cat(labels).to(groups)
    made = Prompts(prompt.ids, prompt.mask != 0, image, groups, tuple(map(tuple, counts)), prompt.left)
    return made.to(short.inputs["input_ids"].device)


def _labels(seen: Seen, kept: Kept) -> Tensor:
    """Cluster of each kept position in the order the LLM reads them; a newline has that of the patch before it."""
    order = seen.grid.order[seen.grid.on_slots(kept.mask, kept.newlines)]
    place = torch.arange(len(order), device=order.device)
    before = torch.where(order >= 0, place, 0).cummax(0).values
    return kept.why["cluster"].flatten()[order[before].clamp(min=0)]


@dataclass(frozen=True)
class Columns:
    """The columns that a segment of layers works on."""

    index: Tensor  # (B, n) int64: columns of the prompt, ascending; 0 in padding
    real: Tensor  # (B, n) bool: not padding
    places: Tensor | None = None  # (B, n) int64: positions, where they were renumbered
    shift: Tensor | None = None  # (B,) int64: what the positions of later tokens are lowered by

    def to(self, device: torch.device) -> Columns:
        """Move beside the states."""
        moved = (None if x is None else x.to(device) for x in (self.places, self.shift))
        return Columns(self.index.to(device), self.real.to(device), *moved)


def all_of(prompts: Prompts) -> Columns:
    """The columns before any cut."""
    index = torch.arange(prompts.ids.shape[1], device=prompts.ids.device).expand_as(prompts.ids)
    return Columns(index, prompts.real)


def visual(columns: Columns, prompts: Prompts) -> list[Tensor]:
    """Find the visual positions of each row among its columns, padding counted."""
    found = (prompts.image.gather(1, columns.index) >= 0) & columns.real
    return [row.nonzero().flatten() for row in found]


def cut(
    columns: Columns, hidden: Tensor, visual: Sequence[Tensor], cuts: Sequence[Cut | None], left: bool
) -> tuple[Columns, Tensor]:
    """Leave out, merge and pad again.

    Args:
        columns: As they are.
        hidden: (B, n, D).
        visual: For each row the places of its visual positions among the n.
        cuts: For each row what goes on of them; None: everything.
        left: Padding side.

    Returns:
        The columns that go on, and their states.
    """
    stay, hidden = [], hidden.clone()
    for row, (where, made) in enumerate(zip(visual, cuts, strict=True)):
        on = columns.real[row].clone()
        if made is not None:
            on[where] = False
            on[where[made.keep]] = True
            if made.merged is not None and made.weights is not None:
                hidden[row, where[made.keep[made.merged]]] = (made.weights @ hidden[row, where].float()).to(hidden)
        order = torch.arange(len(on), device=on.device)
        if made is not None:
            order[where[made.keep].sort().values] = where[made.keep]
        stay.append(order[on])
    length = max(len(on) for on in stay)
    index = columns.index.new_zeros(len(stay), length)
    real = torch.zeros_like(index, dtype=torch.bool)
    for row, on in enumerate(stay):
        span = slice(length - len(on), length) if left else slice(0, len(on))
        index[row, span], real[row, span] = on, True
    rows = torch.arange(len(stay), device=index.device)[:, None]
    places, shift = _renumbered(columns, index, real, cuts)
    return Columns(columns.index[rows, index], real, places, shift), hidden[rows, index]


def _renumbered(
    columns: Columns, index: Tensor, real: Tensor, cuts: Sequence[Cut | None]
) -> tuple[Tensor | None, Tensor | None]:
    """Renumber the positions of all rows, if the cuts say so."""
    how = {made.positions for made in cuts if made is not None}
    if how <= {"true"}:
        return None if columns.places is None else columns.places.gather(1, index), columns.shift
    if "before" in how:
        return (columns.real.cumsum(1) - 1).gather(1, index).clamp(min=0), columns.shift
    shift = columns.real.sum(1) - real.sum(1)
    return (real.cumsum(1) - 1).clamp(min=0), shift if columns.shift is None else columns.shift + shift


def mask(real: Tensor, later: int, queries: int, dtype: torch.dtype | None) -> Tensor | None:
    """Make the mask of a segment: causal, padding hidden, and no query without anything to see.

    Args:
        real: (B, n) bool columns of the prompt.
        later: Tokens behind the prompt.
        queries: The last so many of all n + later are asked.
        dtype: A dtype for a mask to add (eager), None for a bool mask (sdpa).

    Returns:
        (B, 1, queries, n + later), or None where sdpa needs none.
    """
    seen = torch.nn.functional.pad(real, (0, later), value=True)
    total = seen.shape[1]
    if dtype is None and queries in (1, total) and bool(seen.all()):
        return None
    keys = torch.arange(total, device=real.device)
    asked = keys[total - queries :, None]
    visible = ((keys <= asked) & seen[:, None, None]) | (keys == asked)
    if dtype is None:
        return visible
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
