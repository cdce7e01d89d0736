"""Scales, budgets, masks and the whole sequence of the authors' GlobalCom2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from grids import make_grid
from torch import Tensor

from herovlm.methods.globalcom2 import GlobalCom2
from herovlm.types import Kept, Seen


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Compare all that the authors' code gives; logits come in as products of a query of 1 and keys of one channel."""
    logits = torch.from_numpy(case["cls_logits"])  # (T, N)
    tiles, patches = logits.shape
    cols, rows = (int(n) for n in case["grid_wh"])
    side = round(patches**0.5)
    canvas = unpadded(rows * side, cols * side, *(int(n) for n in case["image_size_wh"]))
    local = canvas.view(rows, side, cols, side).transpose(1, 2).reshape(rows * cols, patches)
    seen = Seen(
        make_grid(rows, cols, side, canvas.any(1)),
        torch.cat([torch.ones(1, patches, dtype=torch.bool), local]),
        keys={0: logits[..., None]},
        queries={0: torch.ones(tiles, 2, 1)},
        depth=1,
        heads=1,
    )
    share = float(case["retention_ratio"])
    method = GlobalCom2(variant="official", temperature=float(case["temperature"]))
    kept = method.keep(seen, max(1, round(share * seen.positions)), share=share)
    gist = kept.mask[0].nonzero()[:, 0]
    gist = gist[kept.why["score"][0, gist].argsort(descending=True)]
    found = {
        "mask": kept.mask,
        "tile_budget": kept.granted,
        "n_tokens": torch.tensor(kept.positions),
        "thumbnail_order": gist,
        "sequence_order": torch.cat([torch.stack([0 * gist, gist], 1), canvas_order(seen, kept)]),
    }
    far = [name for name, value in found.items() if not np.array_equal(value.numpy(), case[name])]
    return far + ([] if np.allclose(kept.why["scale"][1:], case["scales"], rtol=0, atol=1e-6) else ["scales"])


def canvas_order(seen: Seen, kept: Kept) -> Tensor:
    """Kept slots of the canvas as the authors lay them out: (tile, patch), a newline (-1, -1).

    They number the valid patches of a tile and take the number for the slot, so that these move up and left into the
    padding; herovlm leaves every patch in its own row.
    """
    (rows, cols), side = seen.grid.tiles, seen.grid.side
    slot = seen.valid[1:].cumsum(1) - 1  # (K, N), what stands in each cell
    tile, patch = kept.mask[1:].nonzero().T
    slot = slot[tile, patch]
    down = tile // cols * side + slot // side
    across = tile % cols * side + slot % side
    line = torch.arange(rows * side)
    places = torch.cat([down * (cols * side + 1) + across, line * (cols * side + 1) + cols * side])
    codes = torch.cat([torch.stack([tile + 1, patch], 1), torch.full((rows * side, 2), -1)])
    return codes[places.argsort()]


def unpadded(high: int, wide: int, width: int, height: int) -> Tensor:
    """Cells of a canvas that LLaVA-NeXT does not take for padding, (high, wide) bool."""
    ok = torch.zeros(high, wide, dtype=torch.bool)
    if width / height > wide / high:
        pad = (high - int(height * (wide / width))) // 2
        ok[pad : high - pad] = True
    else:
        pad = (wide - int(width * (high / height))) // 2
        ok[:, pad : wide - pad] = True
    return ok
