"""ViTCoP, first stage: what the CLS token looks at, and clusters of it for the stages inside the LLM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from herovlm.errors import MethodError
from herovlm.methods.base import Layer, Method, resolve
from herovlm.methods.fields import within
from herovlm.methods.signals import read
from herovlm.ops import merge, score, select
from herovlm.ops.cluster import density_peaks
from herovlm.ops.fit import divided, fit
from herovlm.types import Kept, Needs, Newlines, Seen, Signal


@dataclass(frozen=True, kw_only=True)
class VitCop(Method):
    """Keep the patches with the highest CLS attention, and cluster them by their keys (arXiv 2601.17818).

    This is the paper's first stage, before the LLM: the best patches of the block whose states LLaVA reads.  The kept
    patches are clustered by density peaks of that block's keys, near ones with near ones; the later stages read the
    clusters from the record ("cluster": -2 not kept, -1 in no cluster).  The released code serves one tile: here every
    tile keeps the same share and has clusters of its own.
    """

    variant: Literal["herovlm", "official"] = "herovlm"  # "official": patches of equal density may lead in a circle
    layer: Layer = -2  # block of the attention and of the keys
    signal: Signal = "cls"  # whose attention: the CLS token's, what patches "received", or the pooling head's ("probe")
    centres: float = 0.18  # clusters, as a share of the tile's kept patches
    cutoff: float = 8.0  # distance of keys at which density fades
    near: float = 0.6  # how far away a patch may be that another follows, in sides of the tile

    name = "vitcop"
    paper = "arXiv 2601.17818"
    fidelity = "golden parity"
    formula = "kept[t] = top n[t] of Σ_heads CLS row; clusters: the largest ρ·δ, ρ[i] = Σ_j exp(−(|k[i] − k[j]| / 8)²)"
    fixed = True
    published = (
        "Patches of equal density can lead each other in a circle and then form one more cluster; "
        "in half precision this happens often."
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        within(self, 0, 1, "centres")
        within(self, 1e-6, float("inf"), "cutoff", "near")

    def needs(self, depth: int) -> Needs:
        """CLS rows and keys of one block."""
        blocks = resolve((self.layer,), depth)
        return read(self.signal, blocks, keys=blocks)

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Keep by CLS attention, then cluster what was kept."""
        (block,) = resolve((self.layer,), seen.depth)
        if block not in seen.keys:
            raise MethodError(f"method 'vitcop' clusters the keys of block {block}, which were not recorded")
        scores = score.rows(seen, self.signal, (block,))  # (T, N): of the heads' mean, whose order is that of the sum
        patches = select.by_score(scores, seen, "tile")
        mask, rows = fit(patches, seen, scores, budget, newlines)
        granted = divided(seen, mask, budget, newlines)
        clusters = self.cluster(seen.keys[block], merge.kept(mask, granted), seen.grid.side)
        return Kept(mask, rows, why={"score": scores, "cluster": clusters})

    def cluster(self, keys: Tensor, kept: list[Tensor], side: int) -> Tensor:
        """Cluster the kept patches (n_kept,) of each tile by keys (T, N, C): (T, N) float32, -2 where not kept."""
        places = torch.arange(side * side, device=keys.device)
        yx = torch.stack([places // side, places % side], -1) / side  # (N, 2)
        labels, earlier = [], 0
        for own, at in zip(keys, kept, strict=True):
            found = torch.full_like(places, -2)
            if n := len(at):
                peaks, ties = max(1, int(self.centres * n)), self.variant == "official"
                tile = density_peaks(own[at], yx[at], peaks, cutoff=self.cutoff, near=self.near, ties=ties)
                found = torch.scatter(found, 0, at, torch.where(tile < 0, tile, tile + earlier))
            earlier += n  # numbers of tiles never meet
            labels.append(found)
        return torch.stack(labels).float()
