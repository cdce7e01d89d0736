"""Finding 2: what the CLS token looks at in each block of the vision tower.

Letters: L blocks, T tiles, N patches a tile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from herovlm.eval.answer import Reader
from herovlm.ops import select
from herovlm.study.measure.look import depth, see
from herovlm.types import Needs, Seen

if TYPE_CHECKING:
    from PIL import Image

SHARE = 0.1  # of a tile's valid patches that count as its top tokens
LEVELS = 255  # of a stored attention map
DIGITS = 5


def look(reader: Reader, image: Image.Image) -> Seen:
    """See a picture with the CLS rows of all blocks, and the states of its patches.

    Raises:
        HeroError: the model or the picture cannot be used.
    """
    return see(reader, image, Needs(attention=tuple(range(depth(reader))), hidden=True))


def measure(seen: Seen, foreground: Tensor | None = None) -> dict[str, Any]:
    """Measure every block: means over the thumbnail and over the local tiles, where there are any.

    Args:
        seen: what `look` saw.
        foreground: (T, N) bool, where it is known.
    """
    found = measures(shares(seen), norm_ranks(seen), seen.valid, foreground)
    some = seen.valid.any(1)
    first = torch.arange(len(some), device=some.device) < seen.grid.lead
    parts = {"thumbnail": some & first, "local": some & ~first}
    means: dict[str, Any] = {}
    for part, where in parts.items():
        if where.any():
            by_tile = {name: values[where].nanmean(0) for name, values in found.items()}
            means[part] = {name: _listed(mean) for name, mean in by_tile.items()}
    return means


def shares(seen: Seen) -> Tensor:
    """Attention of the CLS token, mean over heads, as shares of what it pays to valid patches: (L, T, N)."""
    rows = torch.stack([row.mean(1) for _, row in sorted(seen.attention.items())])
    rows = rows * seen.valid
    return rows / rows.sum(-1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)


def norm_ranks(seen: Seen) -> Tensor:
    """Rank the patches of each tile by the norm of what the projector reads: 0 smallest, 1 largest, (T, N)."""
    hidden = torch.zeros(*seen.valid.shape, 1) if seen.hidden is None else seen.hidden.float()
    order = select.ranks(-hidden.norm(dim=-1).cpu(), seen.valid.cpu()).float()  # 0 = smallest valid
    last = (seen.valid.sum(1, keepdim=True) - 1).clamp(min=1).cpu()
    return ((order / last).clamp(max=1) * seen.valid.cpu()).to(seen.valid.device)


def measures(attention: Tensor, norms: Tensor, valid: Tensor, foreground: Tensor | None = None) -> dict[str, Tensor]:
    """Measure attention shares block by block and tile by tile.

    Args:
        attention: (L, T, N) shares, 1 in sum over the valid patches of a tile.
        norms: (T, N) ranks of the patches' norms in 0..1.
        valid: (T, N) bool.
        foreground: (T, N) bool, if known.

    Returns:
        entropy (T, L): of the shares, 1 where all patches get the same; norm (T, L): mean rank of the norm of what is
        looked at, 0.5 by chance; overlap (T, L, L): intersection over union of the top tokens of two blocks; with a
        foreground also foreground (T, L), the share of attention on it, area (T, L), its share of the patches, the
        same in every block, and background_norm (T, L), the norm rank of what is looked at outside of it.
    """
    count = valid.sum(1)
    entropy = torch.special.entr(attention).sum(-1) / count.clamp(min=2).log()  # (L, T)
    top = torch.stack([_top(rows, valid) for rows in attention])  # (L, T, N)
    both = torch.einsum("atn,btn->tab", top.float(), top.float())
    size = top.sum(-1).T.float()  # (T, L)
    found = {
        "entropy": entropy.T,
        "norm": (attention * norms).sum(-1).T,
        "overlap": both / (size[:, :, None] + size[:, None] - both).clamp(min=1),
    }
    if foreground is not None:
        own = foreground & valid
        area = own.sum(1) / count.clamp(min=1)
        mixed = (area > 0) & (area < 1)  # elsewhere there is nothing to choose
        behind = attention * ~own
        found["foreground"] = _where(mixed, (attention * own).sum(-1).T)
        found["area"] = _where(mixed, area[:, None].expand(-1, len(attention)))
        found["background_norm"] = _where(mixed, ((behind * norms).sum(-1) / behind.sum(-1)).T)
    return found


def maps(seen: Seen) -> list[Any]:
    """Attention shares as whole numbers to be drawn, 255 the largest of thumbnail or local tiles: L x T x N."""
    rows, lead = shares(seen), seen.grid.lead
    both = (rows[:, :lead], rows[:, lead:])
    parts = [part / part.amax((1, 2), keepdim=True).clamp(min=1e-9) for part in both if part.numel()]
    return list((torch.cat(parts, 1) * LEVELS).round().int().tolist())


def _top(rows: Tensor, valid: Tensor) -> Tensor:
    """Mark the top tokens of each tile: (T, N) -> (T, N) bool."""
    granted = (valid.sum(1) * SHARE).round().long().clamp(min=1)
    return select.top(select.ranks(rows, valid), granted, valid)


def _where(mixed: Tensor, values: Tensor) -> Tensor:
    return torch.where(mixed[:, None], values, torch.nan)


def _listed(values: Tensor) -> Any:
    """Nested lists of rounded numbers; None where there is no number."""
    if values.ndim > 1:
        return [_listed(row) for row in values]
    return [None if value != value else round(value, DIGITS) for value in values.tolist()]
