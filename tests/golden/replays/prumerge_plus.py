"""Counts, centres and merged tokens of the authors' PruMerge+."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from herovlm.methods.prumerge_plus import PruMergePlus
from replays import prumerge


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Compare as PruMerge; the cells of the grid come after the centres by attention."""
    return prumerge.differences(case, path, PruMergePlus)
