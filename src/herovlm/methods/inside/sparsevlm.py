"""SparseVLM: the words that fit the picture rate it; the best of what they drop lives on, melted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import one_hot

from herovlm.errors import MethodError
from herovlm.methods.base import Layer
from herovlm.methods.fields import within
from herovlm.methods.inside.base import Inside
from herovlm.methods.inside.common import resolve
from herovlm.ops.nearest import knn_peaks
from herovlm.types import Cut, Look, Reads

SHAPE = (300 / 576, 200 / 576, 110 / 576)  # the authors' counts for 192 tokens a layer, as shares of one tile


@dataclass(frozen=True, kw_only=True)
class SparseVlm(Inside):
    """Keep what the text tokens nearest to the picture attend to, and melt the best of the rest (arXiv 2410.04417).

    Raters are the text tokens behind the first image to which the visual positions, as they enter the LLM, are nearer
    than to most: mean softmax of the products above its own mean.  Their attention in the layer before each cut rates
    the positions.  Of those that go, the best are grouped around dense ones, a tenth as many; the mean of each group
    stays at the place of its centre and counts.  The paper also has counts that follow the rank of the attention, so
    the picture; these are fixed, in the proportions of the released LLaVA code.  Each image has its own count.
    """

    layers: tuple[Layer, ...] = (0.09375, 0.21875, 0.5)  # cut before these; the code cuts behind layers 2, 6, 15 of 32
    keep: float | None = None  # share that stays behind the last cut; None: the call's mean, in a chain 110/576
    recycle: float = 0.3  # share of the dropped positions that are melted; 0: none

    name = "sparsevlm"
    paper = "arXiv 2410.04417"
    fidelity = "from the paper"
    formula = "kept = top n of mean_{raters, heads} A[text, visual]; raters: mean_v softmax_t(x[v]·y[t]) > its mean"
    published = (
        "Molten positions stand behind all kept ones and the prompt is renumbered; density has a little random noise."
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 1e-9, 1, "keep")
        within(self, 0, 1, "recycle")
        if len(self.layers) != len(SHAPE):
            raise MethodError(f"sparsevlm(layers={self.layers!r}): expected {len(SHAPE)} layers")

    def needs(self, depth: int) -> dict[int, Reads]:
        """Attention of the text, and states: as they entered, to find the raters, and now, to group them."""
        return {layer: Reads(text=True, states=True, entered=True) for layer in resolve(self.layers, depth)}

    def counts(self, positions: int, depth: int) -> tuple[int, ...]:
        """Fewer at each cut, in the authors' proportions."""
        share = SHAPE[-1] if self.keep is None else self.keep
        return tuple(max(1, round(positions * min(1.0, share * n / SHAPE[-1]))) for n in SHAPE)

    def choose(self, look: Look) -> Cut:
        """Rate by the text that fits, then group what it rates next best."""
        text: Any = look.text  # (Q, n)
        entered: Any = look.entered
        states: Any = look.states
        if not len(text):
            raise MethodError(
                "sparsevlm lets the text behind the image rate it, and there is none: put the question last"
            )
        fit = (entered[0].float() @ entered[1].float().T).softmax(1).mean(0)  # (Q,)
        rating = text[fit >= fit.mean()].mean(0)[look.visual]  # (V,)
        visual, keep, merged = states[look.visual].float(), rating < -1, rating < -1
        rows = torch.zeros(len(rating), len(rating), device=rating.device)
        for image, count in enumerate(look.granted):
            own = (look.image == image).nonzero().flatten()
            order = own[rating[own].argsort(descending=True, stable=True)]
            plain, molten = self.split(len(own), min(count, len(own)))
            keep[order[:plain]] = True
            if molten:
                next_best = order[plain : plain + self.recycled(len(own) - plain)].sort().values
                centre, owner = knn_peaks(visual[next_best], molten)
                keep[next_best[centre]] = merged[next_best[centre]] = True
                shares = one_hot(owner, molten).T.float()  # (molten, m)
                rows[next_best[centre][:, None], next_best] = shares / shares.sum(1, keepdim=True)
        return Cut(keep.nonzero().flatten(), merged[keep], rows[merged])

    def split(self, positions: int, count: int) -> tuple[int, int]:
        """Divide `count` positions into kept and molten ones: a tenth of those recycled are groups, and one more."""
        if not self.recycle or count == positions:
            return count, 0
        for plain in range(count, -1, -1):
            if plain + self.recycled(positions - plain) // 10 + 1 <= count:
                return plain, count - plain
        return 0, count

    def recycled(self, dropped: int) -> int:
        """Count the dropped positions that are melted."""
        return min(dropped, int(dropped * self.recycle) + 1)
