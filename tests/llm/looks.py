"""Hand-made prompts between two layers: text, an image, text, another image, text; random signals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from herovlm.methods.inside.base import Inside
from herovlm.types import SeenInside

HEADS, GROUPS, CHANNELS, STATES = 4, 2, 8, 16


def make_look(
    method: Inside, layer: int, depth: int, images: Sequence[int], granted: Sequence[int], *, seed: int = 0
) -> SeenInside:
    """A prompt as `method` wants to see it before `layer`: what it needs and nothing else."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    kind = [-1] * 5
    for number, count in enumerate(images):
        kind += [number] * count + [-1] * 4
    image = torch.tensor(kind)
    n, visual = len(image), (image >= 0).nonzero().flatten()
    words = int(((image < 0) & ((image >= 0).cumsum(0) > 0)).sum())
    needs = method.needs(depth)[layer]
    signals: dict[str, Any] = {
        "last": (2 * draw(HEADS, n)).softmax(-1),
        "text": (2 * draw(words, n)).softmax(-1),
        "heads": (2 * draw(HEADS, words, n)).softmax(-1),
        "turned": turned(n),
        "back": draw(len(visual)).sigmoid() / 4,
        "keys": draw(GROUPS, n, CHANNELS),
        "ahead": (draw(HEADS, CHANNELS), draw(GROUPS, n, CHANNELS)),
        "states": draw(n, STATES),
        "entered": (draw(len(visual), STATES), draw(words, STATES)),
        "groups": torch.randint(-1, 4, (len(visual),), generator=g),
    }
    wanted = {name: value for name, value in signals.items() if getattr(needs, name)}
    return SeenInside(layer, depth, visual, image[visual], tuple(granted), **wanted)


def turned(n: int) -> Tensor:
    """A vector of ones at each of n positions, rotated: (n, CHANNELS)."""
    angles = torch.arange(float(n))[:, None] / 100.0 ** (torch.arange(CHANNELS // 2) / (CHANNELS // 2))
    return torch.cat([angles.cos() - angles.sin(), angles.cos() + angles.sin()], 1)


def cast(look: SeenInside, to: Callable[[Tensor], Tensor]) -> SeenInside:
    """Change the signals of a prompt, not where things stand."""
    changed: dict[str, Any] = {}
    for name in ("last", "text", "heads", "back", "keys", "states"):
        if (value := getattr(look, name)) is not None:
            changed[name] = to(value)
    for name in ("ahead", "entered"):
        if (pair := getattr(look, name)) is not None:
            changed[name] = (to(pair[0]), to(pair[1]))
    return replace(look, **changed)


def tensors(look: SeenInside) -> list[Tensor]:
    """Everything in a prompt."""
    found = []
    for value in vars(look).values():
        found += [x for x in (value if isinstance(value, tuple) else (value,)) if isinstance(x, Tensor)]
    return found
