"""What single tokens encode: linear probes on tokens that early, late or random scores have picked.

Every probe is trained on some pictures and tested on others, in five folds by picture.  Tokens are the states that the
projector reads.  Targets are known of drawn scenes only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from herovlm.eval import stats
from herovlm.extras import require
from herovlm.methods.base import resolve
from herovlm.ops import score, select
from herovlm.study.measure.foreground import Shown
from herovlm.study.measure.roles import Layers
from herovlm.types import Seen

Floats = Any  # numpy array of float64
SHARE, FOLDS, FEWEST = 0.2, 5, 40  # of a tile's patches; parts of the pictures; tokens that a probe needs
STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # of the ridge; chosen on the training pictures
PICKED = ("early", "late", "random")


@dataclass(frozen=True)
class Tokens:
    """Tokens of several pictures, picked one way."""

    states: Floats  # (n, C)
    picture: Floats  # (n,)
    local: Floats  # (n,) bool: from a local tile
    shape: Floats  # (n,) what stands there; -1 = nothing
    digit: Floats  # (n,) middle digit of the label there; -1 = none
    count: Floats  # (n,) items in the whole picture


@dataclass(frozen=True)
class Probe:
    """What is read from which tokens."""

    title: str
    target: str  # a field of Tokens
    local: bool
    classes: bool  # balanced accuracy of classes, or R² of a number
    only: Callable[[Tokens], Floats] = lambda tokens: np.ones(len(tokens.states), bool)


PROBES = {
    "class": Probe("what stands in the patch (8 shapes or nothing), local tiles", "shape", True, True),
    "digit": Probe("middle digit of the label in the patch, local tiles", "digit", True, True, lambda t: t.digit >= 0),
    "count": Probe("items in the whole picture, thumbnail", "count", False, False),
}


def pick(seen: Seen, layers: Layers, number: int) -> dict[str, Tensor]:
    """Pick the same number of tokens of each tile by early, late and random scores: name -> (T, N) bool."""
    granted = (seen.valid.sum(1) * SHARE).round().long()
    dice = torch.rand(seen.valid.shape, generator=torch.Generator().manual_seed(number)).to(seen.valid.device)
    scores = {stage: score.cls_rows(seen.attention, resolve(of, seen.depth)) for stage, of in layers.items()}
    scores["random"] = dice
    return {name: select.top(select.ranks(by, seen.valid), granted, seen.valid) for name, by in scores.items()}


def tokens(looked: Sequence[tuple[Seen, Shown]], layers: Layers) -> tuple[dict[str, Tokens], float]:
    """Collect tokens of pictures, and the share of early-picked tokens that are late-picked too."""
    rows: dict[str, list[tuple[Floats, ...]]] = {name: [] for name in PICKED}
    both = picked = 0
    for number, (seen, shown) in enumerate(looked):
        masks = pick(seen, layers, number)
        both += int((masks["early"] & masks["late"]).sum())
        picked += int(masks["early"].sum())
        for name, mask in masks.items():
            rows[name].append(_rows(seen, shown, mask.cpu(), number))
    found = {name: Tokens(*map(np.concatenate, zip(*some, strict=True))) for name, some in rows.items() if some}
    return found, both / max(picked, 1)


def _rows(seen: Seen, shown: Shown, mask: Tensor, number: int) -> tuple[Floats, ...]:
    states = torch.empty(*mask.shape, 0) if seen.hidden is None else seen.hidden.float().cpu()
    tile = mask.nonzero()[:, 0]
    one = torch.ones_like(tile)
    parts = (
        states[mask],
        one * number,
        tile >= seen.grid.lead,
        shown.shape[mask],
        shown.digit[mask],
        one * shown.count,
    )
    return tuple(part.numpy() for part in parts)


def probe(tokens: Tokens, what: Probe) -> dict[str, Any] | None:
    """Train and test one probe; None where there are too few tokens.

    Returns:
        score in 0..1 (balanced accuracy, chance 1 / classes; or R², chance 0), its 95 % bootstrap interval over
        pictures, and how many tokens it was tested on.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    where = (tokens.local == what.local) & what.only(tokens)
    states, target, picture = tokens.states[where], getattr(tokens, what.target)[where], tokens.picture[where]
    if len(target) < FEWEST or len(np.unique(picture)) < FOLDS or len(np.unique(target)) < 2:
        return None
    said = _said(states, target, picture, what.classes)
    sums, total = (_hits if what.classes else _squares)(target, said)
    counts = np.array([sums[picture == one].sum(0) for one in np.unique(picture)])
    low, high = stats.interval(counts, total)
    found = {"score": float(total(counts.sum(0))), "low": low, "high": high}
    return {**{name: round(value, 4) for name, value in found.items()}, "tokens": len(target)}


def _said(states: Floats, target: Floats, picture: Floats, classes: bool) -> Floats:
    """Predict every token by a probe that has not seen its picture."""
    linear, pipeline = (require(f"sklearn.{name}", extra="eval") for name in ("linear_model", "pipeline"))
    scaler = require("sklearn.preprocessing", extra="eval").StandardScaler()
    kind = linear.RidgeClassifierCV(STRENGTHS, class_weight="balanced") if classes else linear.RidgeCV(STRENGTHS)
    folds = require("sklearn.model_selection", extra="eval").GroupKFold(FOLDS)
    said = np.zeros(len(target), dtype=np.float64)
    for train, test in folds.split(states, target, picture):
        model = pipeline.make_pipeline(scaler, kind)
        said[test] = model.fit(states[train], target[train]).predict(states[test])
    return said


def _hits(target: Floats, said: Floats) -> tuple[Floats, stats.Total]:
    """Right answers and tokens of each class, (n, 2 C), and the mean over classes of their quotient."""
    classes = np.unique(target)
    of = target[:, None] == classes
    right = of & (said == target)[:, None]

    def total(sums: Floats) -> Floats:
        hits, tries = np.split(sums, 2, -1)
        return np.nanmean(np.where(tries > 0, hits / np.maximum(tries, 1), np.nan), -1)

    return np.concatenate([right, of], 1).astype(np.float64), total


def _squares(target: Floats, said: Floats) -> tuple[Floats, stats.Total]:
    """Squared errors and moments, (n, 4), and R² of their sums."""

    def total(sums: Floats) -> Floats:
        error, first, second, count = np.moveaxis(sums, -1, 0)
        spread = second - first**2 / np.maximum(count, 1)
        return 1 - error / np.where(spread > 1e-9, spread, np.nan)

    y = target.astype(np.float64)
    return np.stack([(y - said) ** 2, y, y**2, np.ones_like(y)], 1), total


def measure(looked: Sequence[tuple[Seen, Shown]], layers: Layers) -> dict[str, Any]:
    """Probe the tokens of all pictures: name of the probe -> how they were picked -> score.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    found, shared = tokens(looked, layers)
    scores = {name: {how: probe(of, what) for how, of in found.items()} for name, what in PROBES.items()}
    return {"layers": {stage: list(of) for stage, of in layers.items()}, "probes": scores, "shared": round(shared, 4)}
