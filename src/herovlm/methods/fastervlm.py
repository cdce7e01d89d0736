"""FasterVLM: the CLS attention of the feature layer alone."""

from __future__ import annotations

from dataclasses import dataclass

from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.signals import read
from herovlm.ops import score, select
from herovlm.ops.fit import fit
from herovlm.ops.select import Scope
from herovlm.types import Kept, Needs, Newlines, Seen, Signal


@dataclass(frozen=True, kw_only=True)
class FasterVlm(Method):
    """FasterVLM: the patches with the highest CLS attention in the block of the features (arXiv 2412.01818v1).

    Tiled models (LLaVA-NeXT) in the paper: every tile, the thumbnail too, keeps its own best; so by default here.
    The later versions of the paper are another method, `vispruner`.
    """

    layer: Layer = -2  # block whose CLS rows rank the patches: the one before the last
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")
    scope: Scope = "tile"  # "image": one ranking over all tiles

    name = "fastervlm"
    paper = "arXiv 2412.01818"
    fidelity = "golden parity"
    formula = "kept = top P of mean_heads CLS row[layer]"
    fixed = True
    published = (
        "The authors' code keeps the same number of patches in every tile; patches that are wholly padding compete and "
        "are sent, and no newline is.  It cuts the picture into the grid that the scaled picture fills best, which is "
        "not always that of the processor."
    )

    def needs(self, depth: int) -> Needs:
        """CLS rows of one block."""
        return read(self.signal, resolve((self.layer,), depth))

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Take the best."""
        scores = score.rows(seen, self.signal, resolve((self.layer,), seen.depth))  # (T, N)
        patches = select.by_score(scores, seen, self.scope)
        return Kept(*fit(patches, seen, scores, budget, newlines), why={"score": scores})
