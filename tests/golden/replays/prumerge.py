"""Counts, centres and merged tokens of the authors' PruMerge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from grids import make_grid

from herovlm.methods.prumerge import PruMerge
from herovlm.types import Seen


def differences(case: Mapping[str, np.ndarray], path: Path, method: type[PruMerge] = PruMerge) -> list[str]:
    """Compare attention, counts, centres and values; the authors' order is by attention, herovlm's is raster."""
    features, wanted = torch.from_numpy(case["features"]), torch.from_numpy(case["tokens"])
    order, keys = torch.from_numpy(case["centre_order"]), torch.from_numpy(case["keys"])
    patches = len(features)
    seen = Seen(
        make_grid(0, 0, round(patches**0.5)),
        torch.ones(1, patches, dtype=torch.bool),
        keys={0: keys[None, 1:]},
        queries={0: torch.stack([torch.from_numpy(case["query_cls"]), keys[0]])[None]},
        hidden=features[None],
        depth=1,
        heads=1,
    )
    variant, share = "adaptive" if case["adaptive"] else "fixed", float(case["fixed_ratio"])
    prune = method(variant=variant, neighbours=int(case["n_neighbours"]))
    kept = prune.keep(seen, max(1, round(share * patches)), share=share)
    score, mask, count = kept.why["score"][0], kept.mask[0], int(kept.why["best"])
    centres = torch.zeros_like(mask).scatter(0, order, True)
    last = int(score.masked_fill(centres, -1).argmax())  # cell of the one more token: the best of the rest
    tokens = torch.zeros_like(features).masked_scatter(mask[:, None], kept.hidden)
    chosen = mask.nonzero()[:, 0]
    chosen = chosen[chosen != last]
    by_score = chosen[score[chosen].argsort(descending=True)]
    cells = by_score[~torch.isin(by_score, order[:count])].sort().values
    rest = np.setdiff1d(np.arange(patches), chosen)
    twice = len(order) - len(chosen)  # chosen by attention and as a cell; as many of the first rest are lost
    found = {
        "cls_attention": np.allclose(score, case["cls_attention"], rtol=1e-4, atol=1e-7),
        "n_outliers": count == int(case["n_outliers"]),
        "reduction_ratio_used": np.isclose(count / patches, case["reduction_ratio_used"]),
        "kept": np.array_equal(chosen, np.unique(case["kept"])),
        "centre_order": torch.equal(score.argsort(descending=True)[:count], order[:count])
        and torch.equal(cells, order[count:][~torch.isin(order[count:], order[:count])]),
        "rest": np.array_equal(rest[twice:], case["rest"]),
        "tokens": torch.allclose(torch.cat([tokens[order], tokens[last, None]]), wanted, atol=1e-4),
    }
    return [name for name, equal in found.items() if not equal]
