"""Gated cross-attention: layers of a frozen language model look up what is not in their prompt.

AGE-VLM (arXiv 2511.17793) puts cross-attention between the layers of a small pretrained language model; its text is
not public, so the form is that of its neighbours (Flamingo, Llama 3.2 Vision): gates that start at 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from herovlm.errors import UsageError
from herovlm.types import Grid, Kept, Seen

FRACTIONS = (0.125, 0.375, 0.625, 0.875)  # depths of the language model before which it stands
WAVES = 4  # frequencies of a place, each with sine and cosine of either axis
PLACE = 3 + 4 * WAVES  # values that tell where a token of the memory stands


@dataclass(frozen=True)
class Shape:
    """How large the parts are, and where they stand."""

    hidden: int  # D, width of the language model
    layers: tuple[int, ...]  # before which layers
    width: int = 128  # of queries, keys and values together
    heads: int = 4
    inner: int = 64  # of the MLP

    def __post_init__(self) -> None:
        """Check that widths fit.

        Raises:
            UsageError: they do not.
        """
        sizes = (self.hidden, self.width, self.heads, self.inner)
        if not self.layers or list(self.layers) != sorted({*self.layers}) or min(self.layers) < 0:
            raise UsageError(f"layers={self.layers}: expected different layers, ascending, from 0 on")
        if min(sizes) < 1 or self.width % self.heads:
            raise UsageError(f"{self}: expected sizes from 1 on, and heads that divide the width")


def even(depth: int) -> tuple[int, ...]:
    """Return the four layers of a language model at even depths, each different.

    Raises:
        UsageError: it has fewer than four.
    """
    if depth < len(FRACTIONS):
        raise UsageError(f"a language model of {depth} layers has no {len(FRACTIONS)} different depths")
    return tuple(math.ceil(fraction * depth - 0.5) for fraction in FRACTIONS)


@dataclass(frozen=True, eq=False)
class Memory:
    """What the prompts of a batch may look up: P prompts, M tokens at most."""

    states: Tensor  # (P, M, D) after the projector; 0 where not real
    places: Tensor  # (P, M, 3): x and y from -1 to 1 around the middle of the picture, and 1 for the overview
    real: Tensor  # (P, M) bool

    @classmethod
    def of(cls, rows: Sequence[tuple[Tensor, Tensor]]) -> Memory:
        """Pad the tokens (m, D) and places (m, 3) of each prompt to the longest."""
        states, places = (nn.utils.rnn.pad_sequence(list(part), batch_first=True) for part in zip(*rows, strict=True))
        lengths = torch.tensor([len(own) for own, _ in rows], device=states.device)
        return cls(states, places, torch.arange(states.shape[1], device=states.device) < lengths[:, None])


def places(grid: Grid) -> Tensor:
    """Return where each token of a picture stands, (T, N, 3) float32, as in `Memory`."""
    return spots(grid.tiles, grid.side, grid.overview).to(grid.order.device)


def spots(tiles: tuple[int, int], side: int, overview: bool = True) -> Tensor:
    """Return the same, by rows and columns of local tiles and patches a side of each."""
    (rows, cols), steps = tiles, torch.arange(side)
    found = []
    shapes = [(0, 0, 1, 1, 1.0)] * overview + [(r, c, rows, cols, 0.0) for r in range(rows) for c in range(cols)]
    for row, col, down, across, whole in shapes:
        y = (row * side + steps + 0.5) / (down * side) * 2 - 1
        x = (col * side + steps + 0.5) / (across * side) * 2 - 1
        both = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).flatten(0, 1)  # (N, 2)
        found.append(F.pad(both, (0, 1), value=whole))
    return torch.stack(found)


def chosen(seen: Seen, kept: Kept, which: str) -> Tensor:
    """Return which tokens of an image are remembered, (T, N) bool: the "dropped" ones, the "kept" ones, or "all".

    Padding never is, and neither is what a narrowed tower left out.
    """
    there = seen.valid if seen.through is None else seen.valid & seen.through
    return {"dropped": there & ~kept.mask, "kept": there & kept.mask, "all": there}[which]


class Remembered(NamedTuple):
    """What one layer makes of a memory."""

    keys: Tensor  # (P, H, M, d)
    values: Tensor  # (P, H, M, d)
    real: Tensor  # (P, M) bool


class GatedCrossAttention(nn.Module):
    """What stands before one layer: h + tanh(g1) attention(h, memory), then h + tanh(g2) MLP(h).

    Attention may also look at nothing: each head has a learned score for that, whose value is 0.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        hidden, width, inner, head = shape.hidden, shape.width, shape.inner, shape.width // shape.heads
        self.heads = shape.heads
        self.norm, self.memory_norm, self.mlp_norm = (nn.RMSNorm(hidden, eps=1e-6) for _ in range(3))
        self.query_norm, self.key_norm = nn.RMSNorm(head, eps=1e-6), nn.RMSNorm(head, eps=1e-6)
        self.query, self.key, self.value = (nn.Linear(hidden, width, bias=False) for _ in range(3))
        self.place = nn.Linear(PLACE, 2 * width, bias=False)
        self.out = nn.Linear(width, hidden, bias=False)
        self.wide, self.up = (nn.Linear(hidden, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, hidden, bias=False)
        self.nothing = nn.Parameter(torch.zeros(shape.heads))
        self.gate, self.mlp_gate = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def remember(self, memory: Memory) -> Remembered:
        """Make keys and values of a memory, once for all tokens that will ask."""
        states, at = memory.states.to(self.gate), memory.places.to(self.gate)
        angles = torch.cat([at[..., :2] * math.pi * 2**k for k in range(WAVES)], -1)
        key, value = self.place(torch.cat([at, angles.sin(), angles.cos()], -1)).chunk(2, -1)
        normed = self.memory_norm(states)
        keys, values = (self._heads(part) for part in (self.key(normed) + key, self.value(normed) + value))
        return Remembered(self.key_norm(keys), values, memory.real)

    def attend(self, hidden: Tensor, known: Remembered) -> tuple[Tensor, Tensor]:
        """Look up: hidden (B, n, D) -> what is read (B, n, D), and the share of each token, (B, H, n, M).

        Rows of one prompt stand side by side: B is P, or P times the number of beams.
        """
        times = len(hidden) // len(known.real)
        keys, values, real = (x if times == 1 else x.repeat_interleave(times, 0) for x in known)
        queries = self.query_norm(self._heads(self.query(self.norm(hidden))))
        scores = (queries @ keys.mT).float() * queries.shape[-1] ** -0.5
        scores = scores.masked_fill(~real[:, None, None], -torch.inf)
        nothing = self.nothing.float()[:, None, None].expand(*scores.shape[:-1], 1)
        shares = torch.cat([scores, nothing], -1).softmax(-1)[..., :-1]
        return self.out((shares.to(values) @ values).transpose(1, 2).flatten(2)), shares

    def forward(self, hidden: Tensor, known: Remembered) -> tuple[Tensor, Tensor]:
        """Return hidden (B, n, D), rows without a memory as they were, and the shares of `attend`."""
        read, shares = self.attend(hidden, known)
        states = hidden + self.gate.tanh() * read
        normed = self.mlp_norm(states)
        states = states + self.mlp_gate.tanh() * self.down(F.silu(self.wide(normed)) * self.up(normed))
        there = known.real.any(1).repeat_interleave(len(hidden) // len(known.real), 0)
        return torch.where(there[:, None, None], states.to(hidden), hidden), shares

    def _heads(self, states: Tensor) -> Tensor:
        return states.view(*states.shape[:-1], self.heads, -1).transpose(1, 2)


class CrossAttention(nn.ModuleDict):
    """The parts of a language model, by the layer that each stands before."""

    def __init__(self, shape: Shape) -> None:
        super().__init__({str(layer): GatedCrossAttention(shape) for layer in shape.layers})
        self.shape = shape

    def before(self, layer: int) -> GatedCrossAttention:
        """Return the part that stands before a layer."""
        part: GatedCrossAttention = self[str(layer)]  # type: ignore[assignment]
        return part
