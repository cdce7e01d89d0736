"""SparseVLM: the words that fit the picture rate it; the best of what they drop lives on, merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn.functional import one_hot

from herovlm.methods.base import Layer
from herovlm.methods.fields import within
from herovlm.methods.inside.base import Inside
from herovlm.methods.inside.common import check_stages, cut_layers, in_proportion, raters
from herovlm.ops.nearest import knn_peaks
from herovlm.types import Cut, NeedsInside, SeenInside


@dataclass(frozen=True, kw_only=True)
class SparseVlm(Inside):
    """Keep what the text tokens nearest to the picture attend to, and merge the best of the rest (arXiv 2410.04417).

    Raters are the text tokens behind the first image to which the visual positions, as they enter the LLM, are nearer
    than to most: mean softmax of the products above its own mean.  Their attention in the layer before each cut rates
    the positions.  Of those that go, the best are grouped around dense ones, a tenth as many; the mean of each group
    stays at the place of its centre and counts.  The paper also has counts that follow the rank of the attention, so
    the picture; these are fixed, in the proportions of the released LLaVA code, whose own numbers are those that stay
    as they are: `plain=(300, 200, 110)` for its 192 tokens, `(303, 110, 36)` for 128, `(66, 30, 17)` for 64.  Each
    image has its own count.
    """

    layers: tuple[Layer, ...] = (0.09375, 0.21875, 0.5)  # cut before these; the code cuts behind layers 2, 6, 15 of 32
    keep: float | None = None  # share that stays behind the last cut; None: the call's mean, in a chain 110/576
    plain: tuple[int, ...] | None = None  # instead of keep: positions that stay as they are at each cut, joined on top
    recycle: float = 0.3  # share of the dropped positions that are merged; 0: none
    positions: Literal["true", "code"] = "true"  # "code": merged ones behind the kept ones, and renumber 0, 1, ...

    name = "sparsevlm"
    paper = "arXiv 2410.04417"
    fidelity = "golden parity"
    formula = "kept = top n of mean_{raters, heads} A[text, visual]; raters: mean_v softmax_t(x[v]·y[t]) > its mean"
    published = (
        "Its counts are of positions that stay as they are, and merged ones come on top: 300, 200, 110 become 309, "
        "204, 113; that is plain=(300, 200, 110).  Merged positions stand behind all kept ones and the prompt is "
        "renumbered; that is positions='code'.  Density has a little random noise, which decides who is the centre "
        "of one or two groups.  A lone word of text gives it no rater and no number; here it rates."
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 1e-9, 1, "keep")
        within(self, 0, 1, "recycle")
        check_stages(self)

    @property
    def settled(self) -> bool:
        """Whether its own fields say how many positions stay."""
        return self.keep is not None or self.plain is not None

    def needs(self, depth: int) -> dict[int, NeedsInside]:
        """Attention of the text, and states: as they entered, to find the raters, and now, to group them."""
        return {layer: NeedsInside(text=True, states=True, entered=True) for layer in cut_layers(self.layers, depth)}

    def counts(self, positions: int, depth: int) -> tuple[int, ...]:
        """Fewer at each cut, in the authors' proportions, or what their own counts come to."""
        if self.plain is None:
            return in_proportion(positions, self.keep)
        left = [positions]
        for plain in self.plain:
            left.append(self.with_merged(left[-1], min(plain, left[-1] - 1)))
        return tuple(left[1:])

    def choose(self, seen: SeenInside) -> Cut:
        """Rate by the text that fits, then group what it rates next best."""
        text: Any = seen.text  # (Q, n)
        rating = text[raters(seen, self.name)].mean(0)[seen.visual]  # (V,)
        states: Any = seen.states
        visual, keep, merged, rows = states[seen.visual].float(), [], [], []
        for image, count in enumerate(seen.granted):
            own = (seen.image == image).nonzero().flatten()
            order = own[rating[own].argsort(descending=True, stable=True)]
            plain, joined = self.split(len(own), min(count, len(own)), list(self.needs(seen.depth)).index(seen.layer))
            stay, place = order[:plain].sort().values, torch.arange(plain + joined, device=own.device)
            if joined:
                next_best = order[plain : plain + self.recycled(len(own) - plain)]
                centre, owner = knn_peaks(visual[next_best], joined)
                shares = one_hot(owner, joined).T.float()  # (joined, m)
                made = visual.new_zeros(joined, len(rating))
                made[:, next_best] = shares / shares.sum(1, keepdim=True)
                stay = torch.cat([stay, next_best[centre]])
                if self.positions == "true":
                    stay, place = stay.sort()
                rows.append(made[place[place >= plain] - plain])
            keep.append(stay)
            merged.append(place >= plain)
        weights = torch.cat([*rows, visual.new_zeros(0, len(rating))])
        return Cut(torch.cat(keep), torch.cat(merged), weights, "true" if self.positions == "true" else "after")

    def split(self, positions: int, count: int, stage: int) -> tuple[int, int]:
        """Divide `count` positions into kept and merged ones: a tenth of those recycled are groups, and one more."""
        if not self.recycle or count == positions:
            return count, 0
        plain = next((n for n in range(count, -1, -1) if self.with_merged(positions, n) <= count), 0)
        named = min(self.plain[stage], positions - 1) if self.plain else plain  # two numbers may come to one count
        plain = named if self.with_merged(positions, named) == count else plain
        return plain, count - plain

    def with_merged(self, positions: int, plain: int) -> int:
        """Count what is left of `positions` when `plain` stay as they are."""
        return plain + (self.recycled(positions - plain) // 10 + 1 if self.recycle else 0)

    def recycled(self, dropped: int) -> int:
        """Count the dropped positions that are merged."""
        return min(dropped, int(dropped * self.recycle) + 1)
