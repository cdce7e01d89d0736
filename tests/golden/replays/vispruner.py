"""Patches and sequence of the authors' VisPruner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from herovlm.methods.vispruner import VisPruner
from replays import fastervlm


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Compare as FasterVLM."""
    return fastervlm.differences(case, path, VisPruner(layer=0, important=float(case["important_ratio"])))
