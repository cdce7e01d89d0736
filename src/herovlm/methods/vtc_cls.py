"""VTC-CLS: one ranking from the CLS attention of many deep blocks."""

from __future__ import annotations

from dataclasses import dataclass

from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.signals import read
from herovlm.ops import score, select
from herovlm.ops.fit import fit
from herovlm.ops.select import Scope
from herovlm.types import Kept, Needs, Newlines, Seen, Signal


@dataclass(frozen=True, kw_only=True)
class VtcCls(Method):
    """VTC-CLS: the patches that the CLS token looks at over a run of deep blocks (arXiv 2412.05819).

    The CLS rows of the blocks `first` to `last`, averaged over heads, are summed; blocks 16 to 22 of 24 in the paper.
    The paper has one tile (LLaVA-1.5) and no rule for more; the tiled form is ours: every tile on its own.
    """

    first: Layer = 0.7  # first block of the run: 16 of 24
    last: Layer = -2  # last block of the run: the one before the last, where LLaVA takes its features
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")
    scope: Scope = "tile"  # "image": one ranking over all tiles

    name = "vtc_cls"
    paper = "arXiv 2412.05819"
    fidelity = "golden parity"
    formula = "kept = top P of Σ_{first ≤ l ≤ last} mean_heads CLS row[l]"
    fixed = True
    published = "The authors' code takes one picture of one tile; a tiled picture or a batch stops it."

    def blocks(self, depth: int) -> tuple[int, ...]:
        """Blocks of the run; in a tower too shallow for it, the last alone."""
        (first,), (last,) = resolve((self.first,), depth), resolve((self.last,), depth)
        return tuple(range(min(first, last), last + 1))

    def needs(self, depth: int) -> Needs:
        """CLS rows of the run."""
        return read(self.signal, self.blocks(depth))

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Sum the rows and take the best."""
        blocks = self.blocks(seen.depth)
        scores = score.rows(seen, self.signal, blocks) * len(blocks)  # (T, N), the sum
        patches = select.by_score(scores, seen, self.scope)
        return Kept(*fit(patches, seen, scores, budget, newlines), why={"score": scores})
