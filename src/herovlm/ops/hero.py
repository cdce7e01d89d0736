"""What `hero` and `hero_plus` share: scores of patches by two stages, weights of tiles by three terms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from herovlm.errors import MethodError
from herovlm.ops import score
from herovlm.types import Seen, Signal

TERMS = ("density", "saliency", "relevance", "weight")
STATE = {"cls": "cls", "received": "hidden", "probe": "hidden"}  # what is needed for the state of a tile


def balance(alpha: float | None, signal: Signal) -> float:
    """Return alpha, or what None stands for: with another signal than CLS rows, saliency alone."""
    return alpha if alpha is not None else 0.25 if signal == "cls" else 1.0


def two_stages(
    seen: Seen, high: Sequence[int], low: Sequence[int], *, signal: Signal = "cls", again: bool = False
) -> Tensor:
    """Score the overview's patches by the rows of the blocks `high`, those of local tiles by `low`: (T, N)."""
    deep, early = (score.rows(seen, signal, blocks, again=again) for blocks in (high, low))
    return torch.cat([seen.grid.whole(deep), seen.grid.local(early)])


def parts(seen: Seen, thumbnail: float | None, times: float = 1) -> tuple[float, float]:
    """Weigh the overview and all local tiles: by a share, or by their valid patches, the overview's counted `times`."""
    if thumbnail is not None:
        return thumbnail, 1 - thumbnail
    return times * sum(seen.grid.whole(seen.counts.room)), sum(seen.grid.local(seen.counts.room))


def tile_weights(
    seen: Seen,
    scores: Tensor | None,
    *,
    signal: Signal = "cls",
    alpha: float,
    density: float,
    t_cls: float,
    t_clip: float,
) -> dict[str, Tensor]:
    """Weigh the local tiles: density * d + (1 - density) * (alpha * s + (1 - alpha) * r).

    Args:
        seen: What the tower saw.
        scores: (T, N) from `two_stages`; CLS states need none.
        signal: Whose attention they are.
        alpha: Saliency against relevance.
        density: Weight of d, the share of a tile's patches that are not padding.
        t_cls: Temperature of the saliency s: cosine of the states of tile and overview.  The state is that of the CLS
            token, or the patches' before the projector summed by their scores.  Without an overview, the mean of all
            tiles' states stands in for its own.
        t_clip: Temperature of the relevance r: cosine of tile and question.

    Returns:
        "density", "saliency", "relevance" and "weight": each (T,) float32, 0 for the overview.

    Raises:
        MethodError: a term has weight and was not recorded.
    """
    grid, (tiles, patches) = seen.grid, seen.valid.shape
    room, lead = grid.local(seen.counts.room), (grid.lead, 0)
    if not room:
        return {name: torch.zeros(tiles, device=seen.valid.device) for name in TERMS}
    if alpha < 1 and seen.relevance is None:
        raise MethodError(f"alpha={alpha} weighs tiles by the question: give one, or use alpha=1")
    states = seen.cls if signal == "cls" else _pooled(seen, scores)
    if alpha > 0 and states is None:
        raise MethodError(f"alpha={alpha} weighs tiles by their states ({STATE[signal]!r}), which were not recorded")
    # 1e-6: the authors' guard against a canvas that is all padding
    d = functional.pad(grid.local(seen.valid).sum(1) / (sum(room) + 1e-6 * patches), lead)
    local = functional.pad(torch.zeros_like(grid.local(d)), lead, value=-torch.inf)  # no softmax sees the overview
    s, r = torch.zeros_like(d), torch.zeros_like(d)
    if states is not None:
        s = local.add(score.saliency(states, None if grid.overview else d), alpha=1 / t_cls).softmax(0)
    if seen.relevance is not None:
        r = local.add(seen.relevance.float(), alpha=1 / t_clip).softmax(0)
    weight = (density * d).add(s, alpha=(1 - density) * alpha).add(r, alpha=(1 - density) * (1 - alpha))
    return dict(zip(TERMS, (d, s, r, weight), strict=True))


def _pooled(seen: Seen, scores: Tensor | None) -> Tensor | None:
    """Sum the states of each tile's patches by their scores: (T, C), or None where there are none."""
    return None if seen.hidden is None or scores is None else score.pooled(seen.hidden, scores * seen.valid)
