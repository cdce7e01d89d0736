"""TOPS, second stage: the same rule twice between the layers, by what the text attends to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from herovlm.errors import MethodError
from herovlm.methods.base import Layer
from herovlm.methods.fields import within
from herovlm.methods.inside.base import Inside
from herovlm.methods.inside.common import cut_layers, raters
from herovlm.ops import diversity, threefold
from herovlm.ops.threefold import Scale
from herovlm.types import Cut, NeedsInside, SeenInside


@dataclass(frozen=True, kw_only=True)
class TopsLlm(Inside):
    """Pick by relevance to the text, diversity and gain in coverage together, twice (arXiv 2606.27161).

    These are the paper's passes inside the LLM; 'tops + tops_llm' is all of it.  Relevance is the attention that the
    raters pay in the layer before, mean over them and the heads; cosines are those of the states at the cut.  Raters
    are the text tokens behind the first image that the picture is nearer to than to most, as in `sparsevlm`.  Half stay
    at the first cut and a quarter of those at the second; another `keep` takes the place of the half, and its cube that
    of the eighth.  Each image of a prompt has its own count, its tiles and newlines in one contest.
    """

    layers: tuple[Layer, ...] = (0.375, 0.75)  # cut before these layers; the paper's 12 and 24 of 32
    keep: float | None = (
        None  # share that stays at the first cut, cubed at the second; None: the call's, in a chain 0.5
    )
    alpha: float = 0.5  # weight of diversity, 1 - the cosine to the nearest pick
    lam: float = 0.5  # weight of the gain in coverage; the paper has 0.4 to 1, by model and budget
    scale: Scale = "mean"  # "minmax": each term to [0, 1], as in the paper's text; its algorithms divide by the mean
    by: Literal["fitting", "last", "all"] = "fitting"  # which text tokens rate: those that fit, the last, or all
    positions: Literal["renumbered", "true"] = "renumbered"  # after each cut 0, 1, ..., and the answer behind it

    name = "tops_llm"
    paper = "arXiv 2606.27161"
    fidelity = "from the paper"
    formula = "pick = argmax_i r̃[i] + α·d̃[i] + λ·c̃[i] as in tops, r = mean_{raters, heads} A[text, visual], x: states"
    published = "No code of the authors was found."

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 1e-9, 1, "keep")
        within(self, 0, math.inf, "alpha", "lam")

    def needs(self, depth: int) -> dict[int, NeedsInside]:
        """Attention of the text, states to compare, and states as they entered, to find the raters."""
        wanted = NeedsInside(text=True, states=True, entered=self.by == "fitting")
        return dict.fromkeys(cut_layers(self.layers, depth), wanted)

    def counts(self, positions: int, depth: int) -> tuple[int, ...]:
        """Half, then an eighth: the odd powers of the share."""
        share = 0.5 if self.keep is None else self.keep
        return tuple(max(1, round(positions * share ** (2 * stage + 1))) for stage in range(len(self.layers)))

    def choose(self, seen: SeenInside) -> Cut:
        """Order the positions of each image by the rule and take the first."""
        rows: Any = seen.text  # (Q, n)
        states: Any = seen.states
        if not len(rows):
            raise MethodError(
                "tops_llm lets the text behind the image rate it, and there is none: put the question last"
            )
        rows = rows[raters(seen, self.name)] if self.by == "fitting" else rows[-1:] if self.by == "last" else rows
        relevance, visual = rows.float().mean(0)[seen.visual], states[seen.visual]  # (V,), (V, D)
        keep = torch.zeros_like(seen.image, dtype=torch.bool)
        for image, count in enumerate(seen.granted):
            own = (seen.image == image).nonzero().flatten()
            how: Any = {"alpha": self.alpha, "lam": self.lam}
            similar = diversity.cosines(visual[own])[None]
            order = threefold.order(similar, relevance[own][None], count, **how, scale=self.scale)
            keep[own[order[0, :count]]] = True
        return Cut(keep.nonzero().flatten(), positions="true" if self.positions == "true" else "after")
