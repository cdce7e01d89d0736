"""Scores, kept patches and tokens of the authors' TRIM; its batch of pictures are tiles of one here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import layer_norm

from herovlm.methods.trim import Trim
from herovlm.types import Seen
from replays import _tiled


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Compare with a share given and with the automatic one; the token of all others comes last there."""
    hidden, text = torch.from_numpy(case["features"]), torch.from_numpy(case["text"])  # (B, N, C), (B, E)
    tiles, patches, channels = hidden.shape
    normed = layer_norm(hidden, (channels,), torch.from_numpy(case["ln_weight"]), torch.from_numpy(case["ln_bias"]))
    seen = Seen(
        _tiled.grid_of(case, tiles, patches),
        _tiled.whole(tiles, patches),
        dots=(normed @ torch.from_numpy(case["projection"]).T @ text[..., None])[..., 0],
        hidden=hidden,
        depth=1,
    )
    count, automatic = int(case["n_plain"]), float(case["ratio_arg"]) < 0
    kept = Trim(variant="adaptive" if automatic else "herovlm").keep(seen, tiles * (count + 1))
    score = kept.why["score"]
    last = score.masked_fill(~kept.mask, torch.inf).argmin(1, keepdim=True)  # cell of the one more token
    plain = kept.mask.scatter(1, last, False)
    tokens = torch.zeros_like(hidden).masked_scatter(kept.mask[..., None], kept.hidden)
    in_order = [torch.cat([tokens[t][plain[t]], tokens[t][last[t]]]) for t in range(tiles)]
    found = {"mask": plain, "n_plain": int(plain[0].sum())}
    close = {
        "scores": np.allclose(score, case["scores"], rtol=1e-4, atol=0),
        "tokens": np.allclose(torch.stack(in_order), case["tokens"].astype(np.float32), rtol=1e-3, atol=1e-4),
        "ratio_used": int(case["ratio_used"] * patches) == count,
    }
    return _tiled.wrong(case, found) + [name for name, equal in close.items() if not equal]
