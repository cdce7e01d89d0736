"""How deep into the language model each patch came, where a method goes on inside it."""

from __future__ import annotations

import torch
from torch import Tensor

from herovlm.types import Kept, KeptInside, Seen


def layers_read(seen: Seen, kept: Kept, inside: KeptInside) -> Tensor:
    """Count the layers of the language model that read each patch: (T, N), 0 for those dropped before it."""
    order, rows = seen.grid.order.cpu(), seen.grid.rows
    stay = torch.cat(
        [kept.newlines.cpu().flip(0), kept.mask.cpu().flatten()]
    )  # newline r at rows - 1 - r, then patches
    slots = order[stay[order + rows]]  # what reached the language model, in its order
    read = torch.zeros(len(slots))
    ends = (*inside.kept, len(inside.positions))
    for end, who in zip(ends, (torch.arange(len(slots)), *inside.kept.values()), strict=True):
        read[who.cpu()] = end
    found = torch.zeros(kept.mask.numel())
    found[slots[slots >= 0]] = read[slots >= 0]
    return found.view(kept.mask.shape)
