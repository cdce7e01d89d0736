"""`keep="auto"`: as many positions as a picture has something to say, for a loss that was measured on this model.

A picture is worth as many positions as it has different patches: each patch counts by its novelty beside the patches
before it.  How many positions one of these needs is a curve of one model, one method and one task; `herovlm calibrate`
measures it and writes a file that names the model by some of its weights.  A model without its file has no promise.
"""

from __future__ import annotations

import json
import math
import os
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from herovlm.budget import Auto
from herovlm.errors import BudgetError, MethodError
from herovlm.ops import select
from herovlm.ops.novelty import novelty
from herovlm.types import Seen

if TYPE_CHECKING:
    from torch import nn

FILE = "herovlm-calibration.json"  # beside the weights of a model that is a folder
TENSORS, VALUES = 24, 4  # that name a model
ALIKE = 0.01  # relative difference of a weight in float32 and in half precision, and room to spare
Curve = Sequence[tuple[float, float]]  # (loss, positions for each different patch), smallest loss first


@dataclass(frozen=True)
class Calibrated(Auto):
    """What was asked for, with the curve of the model."""

    curve: tuple[tuple[float, float], ...] = ()

    def spend(self, seen: Seen) -> int:
        """Number of positions for what was seen, at least 1 and at most all of them."""
        each = positions_each(self.loss, self.curve)
        return seen.positions if math.isinf(each) else max(1, min(seen.positions, round(each * different(seen))))


def calibrated(asked: Auto, model: nn.Module, method: str) -> Calibrated:
    """Find the curve of a model and a method.

    Raises:
        BudgetError: there is no calibration of this model and method; says how to make one.
    """
    if isinstance(asked, Calibrated):
        return asked
    path = place(model) if asked.file is None else Path(asked.file).expanduser()
    command = f"herovlm calibrate {name_of(model) or 'MODEL'} --methods {method!r}"
    if not path.is_file():
        raise BudgetError(f"keep='{asked}' needs a calibration of this model: there is no {path}; make it: {command}")
    found = load(path)
    if not same(found["model"]["weights"], model):
        raise BudgetError(f"{path} is the calibration of another model, with other weights; make its own: {command}")
    if method not in found["curves"]:
        known = ", ".join(found["curves"])
        raise BudgetError(f"{path} says what {known} loses, and nothing of {method!r}; measure it: {command}")
    return Calibrated(asked.loss, asked.file, tuple((loss, each) for loss, each in found["curves"][method]))


def place(model: nn.Module) -> Path:
    """Where the calibration of a model is looked for."""
    return place_of(name_of(model))


def place_of(name: str) -> Path:
    """Where that of a folder or a name on the hub is: beside the weights, or in the user's folder.

    That folder is $HEROVLM_HOME, by default ~/.herovlm.
    """
    if name and Path(name).is_dir():
        return Path(name) / FILE
    home = Path(os.environ.get("HEROVLM_HOME") or Path.home() / ".herovlm")
    return home / "calibrations" / f"{re.sub(r'[^A-Za-z0-9._-]+', '--', name) or 'unnamed'}.json"


def name_of(model: nn.Module) -> str:
    """Folder or name on the hub that a model was loaded from; "" for one that was made here."""
    return str(getattr(model, "name_or_path", "") or "")


def load(path: Path) -> dict[str, Any]:
    """Read a calibration.

    Raises:
        BudgetError: it cannot be read, or is none.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        curves, weights = found["curves"], found["model"]["weights"]
        fine = bool(curves) and all(map(_falls, curves.values())) and bool(weights)
        fine = fine and all(isinstance(x, float) for values in weights.values() for x in values)
    except OSError as error:
        raise BudgetError(f"the calibration {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        fine = False
    if not fine:
        raise BudgetError(f"{path} is not a calibration of herovlm; 'herovlm calibrate MODEL' writes one")
    return dict(found)


def fingerprint(model: nn.Module) -> dict[str, list[float]]:
    """Some weights that name a model: a few values of tensors spread over all of it, by their names."""
    names = [name for name, weight in model.named_parameters() if _legible(weight)]
    chosen = names[:: max(1, len(names) // TENSORS)]
    weights = dict(model.named_parameters())
    return {name: _values(weights[name]) for name in chosen}


def same(weights: Mapping[str, Sequence[float]], model: nn.Module) -> bool:
    """Whether a model has these weights, in whatever precision; those quantised or moved away do not count."""
    own = dict(model.named_parameters())
    if not weights.keys() <= own.keys():
        return False
    legible = [name for name in weights if _legible(own[name])]
    return len(legible) * 4 >= len(weights) and all(
        math.isclose(a, b, rel_tol=ALIKE, abs_tol=1e-6)
        for name in legible
        for a, b in zip(weights[name], _values(own[name]), strict=False)
    )


def different(seen: Seen) -> float:
    """Count the different patches of a picture: the sum of the novelty of each beside those before it in its tile.

    Raises:
        MethodError: the states of the patches were not recorded.
    """
    if seen.hidden is None:
        raise MethodError("keep='auto' counts different patches by their states, which were not recorded")
    order = select.ranks(seen.valid.new_zeros(seen.valid.shape, dtype=seen.hidden.dtype), seen.valid)
    return float((novelty(seen.hidden, order) * seen.valid).sum())


def positions_each(loss: float, curve: Curve) -> float:
    """Positions for each different patch that lose no more, read off a curve; infinite below its first point."""
    losses = [point for point, _ in curve]
    if loss < losses[0]:
        return math.inf
    if loss >= losses[-1]:
        return curve[-1][1]
    at = bisect_right(losses, loss)
    (low, more), (high, fewer) = curve[at - 1], curve[at]
    return more * math.pow(fewer / more, (loss - low) / (high - low))


def _legible(weight: Any) -> bool:
    """Whether a weight holds plain numbers: not quantised, not moved away."""
    return bool(weight.dtype.is_floating_point) and weight.device.type != "meta" and weight.numel() > 0


def _values(weight: Any) -> list[float]:
    """A few values, spread over a tensor."""
    flat = weight.detach().flatten()
    places = [(2 * i + 1) * len(flat) // (2 * VALUES) for i in range(VALUES)]
    return [float(value) for value in flat[places].float().tolist()]


def _falls(curve: Any) -> bool:
    """Whether losses rise from point to point and positions fall."""
    points = [(float(loss), float(each)) for loss, each in curve]
    finite = all(0 <= loss < math.inf and 0 < each < math.inf for loss, each in points)
    return finite and bool(points) and all(a < c and b > d for (a, b), (c, d) in pairwise(points))
