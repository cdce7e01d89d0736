"""The authors' ViTCoP: the encoder stage with its clusters, and both stages inside the language model.

Images of a batch are tiles of one image here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from grids import make_grid

from herovlm.methods.vitcop import VitCop
from herovlm.types import Kept, Seen
from replays._vitcop_inside import stages_inside


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Names of the arrays that differ."""
    return stage_one(case) + stages_inside(case)


def look(case: Mapping[str, np.ndarray]) -> tuple[Seen, Kept]:
    """What the tower saw, and what stage I keeps of it; `features` are those before the projector."""
    images, patches = case["cls_rows"].shape[0], case["cls_rows"].shape[2] - 1
    seen = Seen(
        make_grid(min(1, images - 1), images - 1, round(patches**0.5), newlines=False),
        torch.ones(images, patches, dtype=torch.bool),
        features=torch.from_numpy(case["hidden"])[:, 1:],
        attention={0: torch.from_numpy(case["cls_rows"])[..., 1:]},
        keys={0: torch.from_numpy(case["keys"])[:, 1:]},
        depth=1,
    )
    method = VitCop(variant="official", layer=0, centres=float(case["centre_fraction"]))
    return seen, method.keep(seen, images * int(float(case["encoder_keep"]) * patches))


def stage_one(case: Mapping[str, np.ndarray]) -> list[str]:
    """Kept patches, their features and their clusters."""
    seen, kept = look(case)
    assert seen.features is not None
    labels, theirs = kept.why["cluster"][kept.mask].long().numpy(), case["cluster_labels"]
    # numbers of tied centres are arbitrary: then compare who is with whom
    numbered = (lambda x: x) if case["label_numbering_unique"] else (lambda x: x[:, None] == x)
    same = {
        "stage1_kept": np.array_equal(kept.mask.flatten().nonzero()[:, 0].numpy(), case["stage1_kept"]),
        "stage1_features": np.array_equal(seen.features[kept.mask].numpy(), case["stage1_features"]),
        "cluster_labels": np.array_equal(numbered(labels), numbered(theirs)),
        "n_unlabelled": (labels == -1).sum() == case["n_unlabelled"],
    }
    return [name for name, equal in same.items() if not equal]
