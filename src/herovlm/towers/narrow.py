"""Narrow a vision tower: behind a middle block only the patches go on that the CLS token looks at.

This changes results, unlike all else here: what goes on no longer sees what was left behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from herovlm.errors import BudgetError, UnsupportedError
from herovlm.ops import select
from herovlm.seams.hooks import Change, changing
from herovlm.towers import recording
from herovlm.towers.shortcut import clip_layers
from herovlm.types import Narrow, Seen

BLOCKS = 3  # the last so many blocks before the cut say by their CLS rows who goes on


@dataclass
class Passed:
    """Which patches went through, known once the tower has run; and what they left, put back in its place."""

    valid: Tensor  # (T, N) bool
    cut: Narrow
    rows: Mapping[int, Tensor]  # block -> (T, H, N), filled by the time the cut is made
    index: Tensor | None = None  # (T, M) int64, ascending

    def cut_off(self, states: Tensor) -> Tensor:
        """Choose, and take the CLS token and the chosen patches: (T, 1 + N, C) -> (T, 1 + M, C).

        Every tile sends as many, so that a batch stays dense and needs no mask: a tile with fewer valid patches than
        that sends them all, and the best of its padding for company, as in the whole tower.
        """
        scores = torch.stack([row.mean(1) for row in self.rows.values()]).mean(0)  # (T, N)
        scores = torch.where(self.valid.to(scores.device), scores, scores - 1)  # a mean of softmax rows is below 1
        ranks = select.ranks(scores, torch.ones_like(scores, dtype=torch.bool))
        chosen = ranks < max(1, round(self.cut.share * ranks.shape[1]))
        self.index = chosen.nonzero()[:, 1].view(len(ranks), -1)
        rows = torch.nn.functional.pad(self.index + 1, (1, 0)).to(states.device)
        return states.gather(1, rows[..., None].expand(-1, -1, states.shape[-1]))

    @property
    def through(self) -> Tensor:
        """Valid patches that went through, (T, N) bool.

        Raises:
            UnsupportedError: the tower ran, and was not cut.
        """
        if self.index is None:
            raise UnsupportedError("the vision tower was not narrowed: hooks do not fire in a tower that is compiled")
        chosen = torch.zeros_like(self.valid).scatter_(1, self.index.to(self.valid.device), True)
        return chosen & self.valid

    def spread(self, values: Tensor, dim: int = 1, cls: bool = False) -> Tensor:
        """Put values of the M patches, and of the CLS token before them, where those of N are: 0 elsewhere."""
        if self.index is None:
            return values
        at = torch.nn.functional.pad(self.index + 1, (1, 0)) if cls else self.index
        shape = [size if axis in (0, dim) else 1 for axis, size in enumerate(values.shape)]
        size = list(values.shape)
        size[dim] = self.valid.shape[1] + cls
        at = at.to(values.device).view(shape).expand_as(values)
        return values.new_zeros(size).scatter_(dim, at, values)

    def whole(self, found: Mapping[str, dict[int, Tensor]]) -> dict[str, dict[int, Tensor]]:
        """Spread what `recording.recorded` found in blocks behind the cut."""
        back: dict[str, Change] = {
            "attention": partial(self.spread, dim=2),
            "received": self.spread,
            "keys": self.spread,
        }
        return {
            name: {b: back[name](x) if b > self.cut.block and name in back else x for b, x in blocks.items()}
            for name, blocks in found.items()
        }


def layers_of(tower: nn.Module) -> list[Any]:
    """List the blocks of a tower that can be narrowed.

    Raises:
        UnsupportedError: it cannot.
    """
    layers = clip_layers(tower)
    if not layers:
        raise UnsupportedError("narrow works in the blocks of transformers' own CLIP tower, and this has others")
    return layers


@contextmanager
def applied(
    tower: nn.Module, projector: nn.Module, cut: Narrow, features: tuple[int, ...], valid: Tensor
) -> Iterator[Passed]:
    """Narrow the tower while the body runs it once; the projector gives back all N patches, 0 where none went through.

    Args:
        tower: the vision tower.
        projector: what comes behind it, patch by patch.
        cut: where, and how much goes on.
        features: how many blocks each feature layer stands behind.
        valid: (T, N) bool, of all tiles that the tower is given.

    Raises:
        UnsupportedError: blocks that are not CLIP's, or features from before the cut.
    """
    layers = layers_of(tower)
    if min(features) < cut.block + 2:
        raise UnsupportedError(
            f"narrow after block {cut.block}, but features are taken behind block {min(features) - 1}: nothing would "
            f"be saved; name a block below {min(features) - 1}, counted from 0"
        )
    blocks = tuple(range(max(0, cut.block - BLOCKS + 1), cut.block + 1))
    with recording.cls_rows(tower, blocks) as rows:
        passed = Passed(valid, cut, rows)
        with changing({layers[cut.block + 1]: passed.cut_off}, {projector: passed.spread}):
            yield passed


def survivors(seen: Seen, budget: int) -> Seen:
    """Show a method only the patches that went through.

    Raises:
        BudgetError: the budget is for more positions than they and the newlines are.
    """
    if seen.through is None:
        return seen
    left = replace(seen, valid=seen.through)
    if budget > left.positions:
        raise BudgetError(
            f"a budget of {budget:,} of {seen.positions:,} visual positions is more than goes through the narrowed "
            f"tower: {left.positions:,}, newlines counted; keep less, or narrow less"
        )
    return left
