"""Dominant and contextual tokens of the authors' VisionZip, all but the CLS row, which herovlm does not send."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from grids import make_grid

from herovlm.methods.visionzip import VisionZip
from herovlm.types import Seen


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Compare who is dominant, who is a centre and owns what, the values, and the order of dominant patches."""
    rows = torch.from_numpy(case["cls_rows"])[..., 1:]  # (T, H, N)
    keys, hidden = torch.from_numpy(case["keys"]), torch.from_numpy(case["hidden"])[:, 1:]  # (T, H, 1 + N, C / H)
    tiles, heads, patches = rows.shape
    cols, down = (int(n) for n in case["grid_wh"]) if tiles > 1 else (0, 0)
    seen = Seen(
        make_grid(down, cols, round(patches**0.5)),
        torch.ones(tiles, patches, dtype=torch.bool),
        attention={0: rows},
        keys={0: keys.transpose(1, 2).flatten(2)[:, 1:]},
        hidden=hidden,
        depth=1,
        heads=heads,
    )
    dominant_num, contextual_num = int(case["dominant_num"]), int(case["contextual_num"])
    total = dominant_num + contextual_num
    kept = VisionZip(layer=0, dominant=dominant_num, contextual=contextual_num).keep(seen, tiles * total, "none")
    merged = kept.mask & torch.zeros_like(kept.mask).scatter(1, torch.from_numpy(case["context_targets"]), True)
    dominant = kept.mask & ~merged
    places = [d.nonzero()[:, 0] for d in dominant]
    looked_at = [p[s[p].argsort(descending=True)] for p, s in zip(places, kept.why["score"], strict=True)]
    centres = [m.nonzero()[:, 0] for m in merged]
    joined = zip(merged, centres, kept.why["owner"], strict=True)
    owner = [torch.where(m[o], torch.searchsorted(c, o), -1) for m, c, o in joined]
    values = torch.zeros_like(hidden).masked_scatter(kept.mask[..., None], kept.hidden)
    tokens = [torch.cat([v[p], v[c]]) for v, p, c in zip(values, places, centres, strict=True)]
    found = {
        "dominant": places,
        "topk_order": [torch.cat([torch.zeros(1, dtype=torch.int64), p + 1]) for p in looked_at],
        "context_targets": centres,
        "context_owner": owner,
    }
    if tiles > 1:  # the sequence but for CLS states: thumbnail, dominant in canvas raster, contextual (-2 - j)
        flat = seen.grid.order[seen.grid.order >= 0]
        flat = flat[dominant.flatten()[flat]]
        looked, joined = torch.stack([flat // patches, flat % patches], 1), torch.arange(contextual_num)
        late = [torch.stack([0 * joined + t, -2 - joined], 1) for t in range(tiles)]
        gist = dominant_num  # the thumbnail's come first
        found["sequence_order"] = list(torch.cat([looked[:gist], late[0], looked[gist:], *late[1:]]))
        case = {**case, "sequence_order": case["sequence_order"][case["sequence_order"][:, 1] != -1]}
    far = [name for name, value in found.items() if not same(value, case[name])]
    close = [
        np.allclose(t, w[1:], atol=1e-4) for t, w in zip(tokens, case["tokens"], strict=True) if len(t) == len(w) - 1
    ]
    return far + ([] if len(close) == tiles and all(close) else ["tokens"])


def same(found: list[torch.Tensor], wanted: np.ndarray) -> bool:
    """Whether tile by tile all numbers are equal."""
    return len(found) == len(wanted) and all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
