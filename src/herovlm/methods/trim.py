"""TRIM: patches by their product with the question in CLIP space, and one more token for all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from herovlm.errors import MethodError
from herovlm.methods.base import Method
from herovlm.ops import allocate, merge, score, select
from herovlm.ops.fit import closed_by, divided, fit
from herovlm.types import Kept, Needs, Newlines, Seen


@dataclass(frozen=True, kw_only=True)
class Trim(Method):
    """Keep the patches that the question picks out in CLIP space, and the mean of all others (arXiv 2409.10994).

    A patch is what the projector reads, put through CLIP's last norm and projection; its score is the softmax over the
    tile of minus its product with the question, neither normalised (patch states of CLIP tend to point away from the
    text that names them).  The mean of the others is one token more, which stands in the cell of the best of them; a
    tile kept whole is left alone.  The paper had one tile; here every tile is a picture of its own and keeps the same
    share of its valid patches.  `variant="adaptive"` is the paper's automatic count: as large a share of every tile as
    the picture has outliers among its scores, more than 1.5 interquartile ranges above the third quartile.
    """

    variant: Literal["herovlm", "adaptive"] = "herovlm"  # counts by budget, or by outliers

    name = "trim"
    fixed = True
    paper = "arXiv 2409.10994"
    fidelity = "golden parity"
    formula = "kept = top P of softmax(−P·LN(x)·text); one more: mean of the others"
    published = (
        "With a fixed share the authors' code keeps that share of the patches, rounded down, and adds the one token to "
        "them, behind all others; its automatic count is one for all pictures of a batch.  Its output is cast to "
        "float16."
    )

    @property
    def exact(self) -> bool:
        """False for the automatic count."""
        return self.variant == "herovlm"

    def needs(self, depth: int) -> Needs:
        """Product of every patch and the question, and the states before the projector, of which a mean is sent."""
        return Needs(dots=True, hidden=True)

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Choose the patches and the cell of the one more token in every tile, then average the others."""
        if seen.dots is None:
            raise MethodError("method 'trim' chooses patches by the question: give one")
        if seen.hidden is None:
            raise MethodError("method 'trim' averages states before the projector, which were not recorded")
        valid, room, asked = seen.valid, seen.valid.sum(1), -seen.dots.float()  # asked (T, N)
        scores = asked.masked_fill(~valid, -torch.inf).softmax(-1).masked_fill(~valid, 0)
        ranks = select.ranks(asked, valid)  # a softmax may round to 0 what differs

        def patches(n: int) -> Tensor:
            return select.top(ranks, allocate.exact(room, n, room), valid)

        if self.exact:
            mask, rows = fit(patches, seen, scores, budget, newlines)
            granted = divided(seen, mask, budget, newlines)
        else:
            ratio = score.outliers(scores[valid][None]) / valid.sum()
            mask = select.top(ranks, (room * ratio).long() + 1, valid)
            rows, granted = closed_by(seen.grid, mask, newlines or "none"), mask.sum(1).tolist()
        plain = select.top(select.ranks(asked, mask), mask.sum(1) - (mask ^ valid).any(1).long(), mask)
        others = (valid & ~plain).float()
        mean = (others / others.sum(1, keepdim=True).clamp(min=1))[:, None] @ seen.hidden.float()  # (T, 1, C)
        hidden = torch.where((mask & ~plain)[..., None], mean, seen.hidden.float())
        sent = torch.cat([x[at] for x, at in zip(hidden, merge.kept(mask, granted), strict=True)])
        return Kept(mask, rows, hidden=sent.to(seen.hidden.dtype), why={"score": scores})
