"""What `hero` and `hero_plus` share: scores of patches by two stages, weights of tiles by three terms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from herovlm.errors import MethodError
from herovlm.ops import score
from herovlm.types import Seen

TERMS = ("density", "saliency", "relevance", "weight")


def two_stages(seen: Seen, high: Sequence[int], low: Sequence[int], *, again: bool = False) -> Tensor:
    """Score the thumbnail's patches by the CLS rows of the blocks `high`, those of local tiles by `low`: (T, N)."""
    deep, early = (score.cls_rows(seen.attention, blocks, again=again) for blocks in (high, low))
    return torch.cat([deep[:1], early[1:]])


def tile_weights(seen: Seen, *, alpha: float, density: float, t_cls: float, t_clip: float) -> dict[str, Tensor]:
    """Weigh the local tiles: density * d + (1 - density) * (alpha * s + (1 - alpha) * r).

    Args:
        seen: What the tower saw.
        alpha: Saliency against relevance.
        density: Weight of d, the share of a tile's patches that are not padding.
        t_cls: Temperature of the saliency s: cosine of the CLS states of tile and thumbnail.
        t_clip: Temperature of the relevance r: cosine of tile and question.

    Returns:
        "density", "saliency", "relevance" and "weight": each (T,) float32, 0 for the thumbnail.

    Raises:
        MethodError: a term has weight and was not recorded.
    """
    (_, *room), (tiles, patches) = seen.counts.room, seen.valid.shape
    if not room:
        return {name: torch.zeros(tiles, device=seen.valid.device) for name in TERMS}
    if alpha < 1 and seen.relevance is None:
        raise MethodError(f"alpha={alpha} weighs tiles by the question: give one, or use alpha=1")
    if alpha > 0 and seen.cls is None:
        raise MethodError(f"alpha={alpha} weighs tiles by their CLS states, which were not recorded")
    # 1e-6: the authors' guard against a canvas that is all padding
    d = functional.pad(seen.valid[1:].sum(1) / (sum(room) + 1e-6 * patches), (1, 0))
    local = functional.pad(torch.zeros_like(d[1:]), (1, 0), value=-torch.inf)  # no softmax over it sees the thumbnail
    s, r = torch.zeros_like(d), torch.zeros_like(d)
    if seen.cls is not None:
        s = local.add(score.saliency(seen.cls), alpha=1 / t_cls).softmax(0)
    if seen.relevance is not None:
        r = local.add(seen.relevance.float(), alpha=1 / t_clip).softmax(0)
    weight = (density * d).add(s, alpha=(1 - density) * alpha).add(r, alpha=(1 - density) * (1 - alpha))
    return dict(zip(TERMS, (d, s, r, weight), strict=True))
