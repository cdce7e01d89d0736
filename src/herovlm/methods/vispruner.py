"""VisPruner: important patches by CLS attention, diverse ones by removing near-duplicates from the rest."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from herovlm.errors import MethodError
from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.fields import within
from herovlm.methods.signals import read
from herovlm.ops import allocate, removal, score, select
from herovlm.ops.diversity import cosines
from herovlm.ops.fit import fit
from herovlm.types import Kept, Needs, Newlines, Seen, Signal


@dataclass(frozen=True, kw_only=True)
class VisPruner(Method):
    """VisPruner: a share of important patches, and diverse ones from what is left (arXiv 2412.01818v2, ICCV 2025).

    Important is what the CLS token looks at.  The rest, in order of attention, is split into every other patch; of
    the first half those most alike (cosine) to any of the second are removed, a few a round, and the halves are drawn
    anew until the count is right.  Tiled models (LLaVA-NeXT) in the paper, as here: every tile on its own.
    """

    important: float = 0.5  # share of a tile's kept patches that go by attention; 1 is `fastervlm`
    step: int = 8  # near-duplicates removed a round
    layer: Layer = -2  # block whose CLS rows rank the patches: the one before the last
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")

    name = "vispruner"
    fixed = True
    paper = "arXiv 2412.01818"
    fidelity = "golden parity"
    formula = "kept = top ⌊important·n⌋ of CLS row ∪ rest after: of every other patch drop argmax cos to the others"
    published = (
        "The authors' code cuts every picture into 2 x 2 tiles and keeps the same number of patches in each; patches "
        "that are wholly padding compete and are sent, and no newline is.  It stops with an error where the patches "
        "that go into the removal are odd in number, or too few for a round."
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 0, 1, "important")
        within(self, 1, float("inf"), "step")

    def needs(self, depth: int) -> Needs:
        """CLS rows of one block, and the states before the projector, whose cosine counts."""
        return read(self.signal, resolve((self.layer,), depth), hidden=True)

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Choose in each tile its own, the same share of the valid patches."""
        if seen.hidden is None:
            raise MethodError("method 'vispruner' compares patches before the projector, which were not recorded")
        room = seen.counts.room
        scores = score.rows(seen, self.signal, resolve((self.layer,), seen.depth))  # (T, N)
        order = select.order(scores, seen.valid)  # (T, N) the best first
        alike = cosines(seen.hidden.gather(1, order[..., None].expand_as(seen.hidden)))  # (T, N, N)
        known: dict[tuple[int, ...], Tensor] = {}  # `fit` may ask for many counts that differ by one or two

        def patches(n: int) -> Tensor:
            granted = allocate.shares(room, n, room)
            important = tuple(int(count * self.important) for count in granted)
            if important not in known:
                known[important] = order.gather(1, removal.duplicates(alike, important, room, self.step))
            return select.first(known[important], granted)

        return Kept(*fit(patches, seen, scores, budget, newlines), why={"score": scores})
