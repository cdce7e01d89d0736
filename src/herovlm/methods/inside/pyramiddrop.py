"""PyramidDrop: the deeper the layer, the fewer positions; the next layer's own weights say which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from herovlm.errors import MethodError
from herovlm.methods.base import Layer
from herovlm.methods.fields import within
from herovlm.methods.inside.base import Inside
from herovlm.methods.inside.common import best, cut_layers
from herovlm.ops.attend import mean_of_heads
from herovlm.types import Cut, NeedsInside, SeenInside


@dataclass(frozen=True, kw_only=True)
class PyramidDrop(Inside):
    """Halve the visual positions at a quarter, a half and three quarters of the layers (arXiv 2410.17247).

    At each cut stay those that the prompt's last token would attend to most in the layer to come: its query and key
    projections, on the states that it is about to read.  The paper has one tile; here every image of a prompt keeps
    its own share, its tiles and newlines in one contest.
    """

    layers: tuple[Layer, ...] = (0.25, 0.5, 0.75)  # cut before these layers
    keep: float | None = None  # share that stays at each cut of what was there; None: the call's mean, in a chain 0.5
    ratios: tuple[float, ...] | None = None  # instead of keep: the share of the image that stays from each cut on
    positions: Literal["true", "code"] = "true"  # "code": renumber 0, 1, ... after each cut, and the answer behind it

    name = "pyramiddrop"
    paper = "arXiv 2410.17247"
    fidelity = "golden parity"
    formula = "kept[s] = top V·keep^s of mean_heads softmax(q[last] · K / √d), q and K of the layer to come"
    published = "The code renumbers the positions 0, 1, ... after each cut; that is positions='code'."

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 1e-9, 1, "keep")
        shares = self.ratios
        if shares is not None:
            falling = all(a >= b > 0 for a, b in zip((1.0, *shares), shares, strict=False))
            if not falling or len(shares) != len(self.layers) or self.keep is not None:
                raise MethodError(
                    f"pyramiddrop(ratios={shares!r}): expected a share for each of the {len(self.layers)} layers, none "
                    "above 1 or the one before, and no keep beside them"
                )

    @property
    def settled(self) -> bool:
        """Whether its own fields say how many positions stay."""
        return self.keep is not None or self.ratios is not None

    def needs(self, depth: int) -> dict[int, NeedsInside]:
        """The last token's query and all keys of the layer to come."""
        return {layer: NeedsInside(ahead=True) for layer in cut_layers(self.layers, depth)}

    def counts(self, positions: int, depth: int) -> tuple[int, ...]:
        """The same share at each cut, rounded down as in the authors' code."""
        share = 0.5 if self.keep is None else self.keep
        shares = self.ratios or [share**stage for stage in range(1, len(self.layers) + 1)]
        return tuple(max(1, int(positions * share)) for share in shares)

    def choose(self, seen: SeenInside) -> Cut:
        """Take the highest mean over heads."""
        ahead: Any = seen.ahead  # (H, C), (G, n, C)
        query, keys = ahead
        row = mean_of_heads(query[None], keys, seen.visual.new_tensor([keys.shape[1] - 1]))[0]  # (n,)
        return Cut(best(row[seen.visual], seen), positions="true" if self.positions == "true" else "after")
