"""Finding 3 in numbers: do late-picked tokens serve the thumbnail, and early-picked ones the local tiles?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from herovlm.eval.plan import FULL
from herovlm.eval.records import Record
from herovlm.study.measure.probes import PROBES
from herovlm.study.measure.roles import KEEPS, STAGES, name_of
from herovlm.study.summary import numbers, verdict
from herovlm.study.summary.numbers import Number

PAPER = ("late", "early")  # thumbnail, local tiles
WAYS = tuple(product(STAGES, STAGES))
FINDING = "Late-picked tokens for the thumbnail and early-picked ones for local tiles serve answers best"


def summarise(lines: Sequence[Record], probes: Sequence[Record]) -> dict[str, Any]:
    """Sum up the records of roles and of probes, for each pair of early and late blocks."""
    pairs = dict.fromkeys(name.partition(":")[0] for line in lines for name in line["judged"] if ":" in name)
    found: dict[str, Any] = {
        "pictures": len({line["picture"] for line in lines}),
        "questions": len(lines),
        "full": _way(lines, FULL),
        "pairs": {pair: _pair(lines, pair) for pair in pairs},
        "probes": {
            one["pair"]: {name: one[name] for name in ("layers", "picture", "probes", "shared")} for one in probes
        },
        "probe_titles": {name: what.title for name, what in PROBES.items()},
    }
    return {**found, "verdict": judged(found["pairs"].get("default", {}).get("gains", {}))}


def judged(gains: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Write the sentence of this finding, from what is gained over the best of the three other ways at each keep."""
    told = [
        f"{verdict.spell(gain['log'], sign=True)} at keep={keep} (against {gain['best']})"
        for keep, gain in gains.items()
    ]
    where = "the log-likelihood of the right answer, against the best of the three other ways, changes by "
    return verdict.verdict(
        FINDING, [g["log"] for g in gains.values()], where + " and ".join(told) if told else "no data"
    )


def _pair(lines: Sequence[Record], pair: str) -> dict[str, Any]:
    """All ways and keeps of one pair of stages, and what the paper's way gains over the best other one."""
    names = {name_of(*way, keep): f"{pair}:{name_of(*way, keep)}" for keep in KEEPS for way in WAYS}
    lines = [line for line in lines if {FULL, *names.values()} <= {*line["judged"]}]
    ways = {short: _way(lines, name) for short, name in names.items()}
    if not lines:
        return {"ways": ways, "gains": {}}
    return {"ways": ways, "gains": {str(keep): _gain(lines, pair, ways, keep) for keep in KEEPS}}


def _way(lines: Sequence[Record], name: str) -> dict[str, Any]:
    """Score one way: log-likelihood and accuracy, overall and by kind of question."""
    lines = [line for line in lines if name in line["judged"]]
    kinds = dict.fromkeys(line["kind"] for line in lines if line["kind"])
    parts = {kind: [line for line in lines if line["kind"] == kind] for kind in kinds}
    return {**_scored(lines, name), "kinds": {kind: _scored(some, name) for kind, some in parts.items()}}


def _scored(lines: Sequence[Record], name: str) -> dict[str, Number]:
    return {
        what: numbers.mean(numbers.collect((line["picture"], float(line["judged"][name][at])) for line in lines))
        for at, what in enumerate(("log", "accuracy"))
    }


def _gain(lines: Sequence[Record], pair: str, ways: Mapping[str, Any], keep: float) -> dict[str, Any]:
    """What the paper's way gains over the one of the other ways with the highest log-likelihood, and over each."""
    others = [name_of(*way, keep) for way in WAYS if way != PAPER]
    best = max(others, key=lambda name: ways[name]["log"]["value"])
    ours = f"{pair}:{name_of(*PAPER, keep)}"
    against = {}
    for other in others:
        pairs = [(line["picture"], line["judged"][ours], line["judged"][f"{pair}:{other}"]) for line in lines]
        rows = [(picture, np.subtract(a, b, dtype=np.float64)) for picture, a, b in pairs]
        against[other.partition("@")[0]] = {
            what: numbers.mean(numbers.collect((picture, float(row[at])) for picture, row in rows))
            for at, what in enumerate(("log", "accuracy"))
        }
    name = best.partition("@")[0]
    return {"best": name, **against[name], "against": against}
