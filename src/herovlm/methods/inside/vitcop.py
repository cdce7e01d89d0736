"""ViTCoP, second and third stage: clusters from the vision tower keep their best and merge the rest, then few stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from herovlm.errors import BudgetError
from herovlm.methods.base import Layer
from herovlm.methods.fields import within
from herovlm.methods.inside.base import Inside
from herovlm.methods.inside.common import best, cut_layers
from herovlm.ops import reduce
from herovlm.types import Cut, NeedsInside, SeenInside


@dataclass(frozen=True, kw_only=True)
class VitCopLlm(Inside):
    """Keep the positions whose keys are short: first within clusters, which merge the rest, then overall (2601.17818).

    These are the paper's stages inside the LLM, 'vitcop + vitcop_llm' is all of it: the method before gives the
    clusters.  At the shallow cut each cluster keeps its share, shortest keys of the layer before first, and what is
    left of it becomes one position in its middle; at the deep cut the shortest keys stay.  The released code serves one
    tile; here the positions of each image are one pool, and a newline belongs to the cluster of the patch before it.
    """

    shallow: Layer = 0.0625  # cut before this layer by clusters; the paper's 2 of 32
    deep: Layer = 0.6875  # and before this one overall; the paper's 22 of 32
    keep: float | None = None  # mean over the layers, as a share of what reaches the LLM; None: 0.5
    last: float = 0.2  # share of the shallow cut that survives the deep one
    merge: Literal["mean", "code"] = "mean"  # "code": the middle one plus the mean, about twice as long
    positions: Literal["true", "code"] = "true"  # "code": behind the deep cut, places in the sequence before it

    name = "vitcop_llm"
    paper = "arXiv 2601.17818"
    fidelity = "golden parity"
    formula = "n[i] = ‖mean_heads k[i]‖; kept = the u[c] smallest n of each cluster c and the mean of its rest"
    published = (
        "Merged states are the middle one plus the mean (merge='code'); the deep cut renumbers the prompt alone."
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 1e-9, 1, "keep", "last")

    @property
    def settled(self) -> bool:
        """Always: its clusters come from a method before it, so it is never alone."""
        return True

    def needs(self, depth: int) -> dict[int, NeedsInside]:
        """Keys of the layer before, and at first the clusters."""
        shallow, deep = cut_layers((self.shallow, self.deep), depth)
        return {shallow: NeedsInside(keys=True, groups=True), deep: NeedsInside(keys=True)}

    def counts(self, positions: int, depth: int) -> tuple[int, ...]:
        """Solve for the mean over all layers, as the authors do."""
        shallow, deep = self.needs(depth)
        share = 0.5 if self.keep is None else self.keep
        rest = (deep - shallow) + (depth - deep) * self.last
        first = min(round((depth * share - shallow) / rest * positions), positions)
        if first < 1:
            raise BudgetError(
                f"{self}: the {shallow} of {depth} layers before the first cut alone read {shallow / depth:.3g} of the "
                f"positions; use keep > {shallow / depth:.4f}"
            )
        return first, max(1, round(first * self.last))

    def choose(self, seen: SeenInside) -> Cut:
        """Short keys are the important ones."""
        keys: Any = seen.keys  # (G, n, C)
        norms = keys.float().mean(0)[seen.visual].norm(dim=-1)  # (V,)
        if seen.layer != next(iter(self.needs(seen.depth))):
            return Cut(best(-norms, seen), positions="true" if self.positions == "true" else "before")
        groups: Any = seen.groups
        keep, merged = torch.zeros_like(norms, dtype=torch.bool), torch.zeros_like(norms, dtype=torch.bool)
        rows = torch.zeros(len(norms), len(norms), device=norms.device)
        for image, count in enumerate(seen.granted):
            own = (seen.image == image).nonzero().flatten()
            group = reduce.groups(norms[own], groups[own], count)
            keep[own[group < 0]] = True
            for number in range(int(group.max()) + 1):
                members = own[group == number]
                middle = members[len(members) // 2]
                keep[middle] = merged[middle] = True
                rows[middle, members] = 1 / len(members)
                rows[middle, middle] += self.merge == "code"
        return Cut(keep.nonzero().flatten(), merged[keep], rows[merged])
