"""A smaller picture: fewer or smaller tiles, and nothing dropped of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from herovlm.methods.base import Method
from herovlm.types import Kept, Needs, Newlines, Seen


@dataclass(frozen=True, kw_only=True)
class Downsample(Method):
    """Make the picture smaller until all that is sent of it fits the budget.

    The picture is put together again from the pixels of the inputs, shrunk, and given to the model's own image
    processor.  Candidates are all grids of tiles that it makes of the picture (as many tiles, fewer, the thumbnail
    alone), each with tiles of every side from the tower's own down to one patch (the tower interpolates its position
    encodings).  The one is taken that sends most within the budget; of equals, the one of fewer, larger tiles.  With
    `prefer="tiles"` tiles stay as large as the tower knows them while any such picture fits, though it may send much
    less.  What was sent is in the record.  On a model that takes any size, this beat many methods on many public
    benchmarks (arXiv 2510.07143).
    """

    prefer: Literal["positions", "tiles"] = "positions"  # send as much as fits, or keep tiles as large as the tower's

    name = "downsample"
    paper = "baseline"
    fidelity = "baseline"
    formula = "kept = everything of the largest smaller picture that sends at most the budget"
    smaller: ClassVar[bool] = True

    @property
    def exact(self) -> bool:
        """False: pictures come in few sizes."""
        return False

    def needs(self, depth: int) -> Needs:
        """Nothing but the features, which are always there."""
        return Needs()

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Keep everything of what is a smaller picture already."""
        return Kept(seen.valid.clone(), seen.grid.sent.clone())
