"""What an inside method is shown before a layer: read from the layer before, its cache, and the layer to come."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from herovlm.llm.columns import Columns, Prompts
from herovlm.ops.attend import attend, mean_of_heads
from herovlm.types import Cut, KeptInside, NeedsInside

Rope = tuple[Tensor, Tensor]  # cosines and sines, (B or 1, n, C)


@dataclass
class Batch:
    """A prompt on its way through the layers."""

    prompts: Prompts
    columns: Columns
    cache: Any
    entered: Tensor  # (B, L, D) states at the entry
    rope: Rope  # of the layer that ran last
    given: dict[str, Any] = field(default_factory=dict)  # what layers get instead, once something was cut
    queries: dict[int, Tensor] = field(default_factory=dict)  # layer -> (B, n, H * C) query projections
    segments: list[Columns | None] = field(default_factory=list)  # for each layer; None before something was cut
    left: list[dict[int, tuple[Tensor, Tensor]]] = field(init=False)  # for each row: layer -> which are left, joined
    duplicates: list[bool] = field(init=False)  # whether a row is the same as the one before

    def __post_init__(self) -> None:
        """Start with everything."""
        self.left = [{} for _ in self.entered]
        states = self.entered
        self.duplicates = [row > 0 and torch.equal(states[row], states[row - 1]) for row in range(len(states))]

    def note(self, row: int, layer: int, cut: Cut | None) -> None:
        """Write down which of a row's visual positions are left from a layer on."""
        if cut is None:
            return
        before = [alive for alive, _ in self.left[row].values()][-1:]
        alive = before[0][cut.keep] if before else cut.keep
        merged = torch.zeros_like(alive, dtype=torch.bool) if cut.merged is None else cut.merged
        self.left[row][layer] = (alive, merged)

    def record(self, row: int, depth: int) -> list[KeptInside]:
        """Return what each layer kept of each image of a row."""
        found, start = [], 0
        for count in self.prompts.counts[row]:
            kept, merged = {}, {}
            positions = [count] * depth
            for layer, (alive, joined) in self.left[row].items():
                own = (alive >= start) & (alive < start + count)
                order = alive[own].argsort()
                kept[layer], merged[layer] = alive[own][order] - start, joined[own][order]
                positions[layer:] = [int(own.sum())] * (depth - layer)
            found.append(KeptInside(tuple(positions), kept, merged))
            start += count
        return found


@torch.no_grad()
def signals(layers: Any, layer: int, hidden: Tensor, row: int, batch: Batch, wanted: NeedsInside) -> dict[str, Any]:
    """Read one row of the batch before a layer: the fields of `SeenInside` that are signals.

    Args:
        layers: The layers of the language model.
        layer: The one that comes next.
        hidden: (B, n, D) what it is about to read.
        row: Which prompt.
        batch: The batch on its way.
        wanted: What to read.
    """
    on = batch.columns.real[row].nonzero().flatten()
    where = batch.columns.index[row, on]
    image = batch.prompts.image[row, where]
    visual, words = (image >= 0).nonzero().flatten(), behind(image)
    found: dict[str, Any] = {"visual": visual, "image": image[visual]}
    if wanted.states:
        found["states"] = hidden[row, on]
    if wanted.entered:
        all_images = batch.prompts.image[row]
        found["entered"] = (batch.entered[row, all_images >= 0], batch.entered[row, where[words]])
    if wanted.groups and batch.prompts.groups is not None:
        found["groups"] = batch.prompts.groups[row, where[visual]]
    if wanted.ahead:
        found["ahead"] = _ahead(layers[layer], hidden[row, on], _rope(batch.rope, row, on))
    if wanted.turned:
        found["turned"] = _ones(layers[layer - 1].self_attn, _rope(batch.rope, row, on))
    if not (wanted.last or wanted.text or wanted.heads or wanted.back or wanted.keys):
        return found
    keys = batch.cache.layers[layer - 1].keys[row, :, on]  # (G, n, C)
    found["keys"] = keys if wanted.keys else None

    def queries(at: Tensor) -> Tensor:
        projected = batch.queries[layer - 1][row, on[at]]
        return _turned(layers[layer - 1].self_attn, projected, _rope(batch.rope, row, on[at]), "q_norm")

    if wanted.last:
        last = visual.new_tensor([len(on) - 1])
        found["last"] = attend(queries(last), keys, last)[:, 0]
    if wanted.text:
        found["text"] = mean_of_heads(queries(words), keys, words)
    if wanted.heads:
        found["heads"] = attend(queries(words), keys, words)
    if wanted.back:  # only positions behind some text can see it
        back = torch.zeros(len(visual), device=hidden.device)
        late = visual > words.min() if len(words) else visual < 0
        if bool(late.any()):
            back[late] = mean_of_heads(queries(visual[late]), keys, visual[late])[:, words].sum(1)
        found["back"] = back
    return found


def behind(image: Tensor) -> Tensor:
    """Places of the text behind the first image, (Q,), in a row of images (n,), -1 for text."""
    return ((image < 0) & ((image >= 0).cumsum(0) > 0)).nonzero().flatten()


def _rope(rope: Rope, row: int, on: Tensor) -> Rope:
    """Pick the rows of one prompt; positions may be given once for the whole batch."""
    cos, sin = (part[row % len(part), on.to(part.device)] for part in rope)
    return cos, sin


def _ahead(layer: Any, states: Tensor, rope: Rope) -> tuple[Tensor, Tensor]:
    """Query of the last token (H, C) and keys (G, n, C) that a layer will make of states (n, D)."""
    normed = layer.input_layernorm(states)
    attention = layer.self_attn
    last = (rope[0][-1:], rope[1][-1:])
    query = _turned(attention, attention.q_proj(normed[-1:]), last, "q_norm")
    return query[0], _turned(attention, attention.k_proj(normed), rope, "k_norm").transpose(0, 1)


def _ones(attention: Any, rope: Rope) -> Tensor:
    """Rotate vectors of ones by position: (n, C) float32."""
    return _turned(attention, rope[0].new_ones(len(rope[0]), attention.head_dim, dtype=torch.float32), rope)[:, 0]


def _turned(attention: Any, projected: Tensor, rope: Rope, norm: str = "") -> Tensor:
    """Split heads, normalise them where a model does, and rotate with its own function: (n, H * C) -> (n, H, C)."""
    heads = projected.view(1, len(projected), -1, attention.head_dim)
    heads = attention._modules.get(norm, torch.nn.Identity())(heads).transpose(1, 2)  # (1, H, n, C)
    apply = sys.modules[type(attention).__module__].apply_rotary_pos_emb
    turned: Tensor = apply(heads, heads, rope[0][None], rope[1][None])[0]
    return turned[0].transpose(0, 1)
