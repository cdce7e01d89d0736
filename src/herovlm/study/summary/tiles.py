"""Finding 1 in numbers: do saliency and relevance tell which local tiles an answer needs?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np

from herovlm.eval.records import Record
from herovlm.ops.hero import balance
from herovlm.study.measure.tiles import HERO
from herovlm.study.summary import numbers, verdict
from herovlm.study.summary.numbers import Floats, Number

SIGNALS = ("saliency", "relevance")
SCORES = (*SIGNALS, "density", "weight")
ALPHAS = tuple(step / 10 for step in range(11))
FINDING = "Saliency and relevance together tell the importance of a tile"
Score = Callable[[Record], Sequence[float]]


def summarise(lines: Sequence[Record]) -> dict[str, Any]:
    """Sum up the records of tiles; only pictures with at least two local tiles can say anything."""
    lines = [line for line in lines if len(line["weight"]) > 1]
    scores = {name: _score(lines, itemgetter(name)) for name in SCORES}
    sweep = [{"alpha": alpha, **_within(lines, partial(mixed, alpha=alpha))} for alpha in ALPHAS]
    best = max(SIGNALS, key=lambda name: scores[name]["within"]["value"] or 0.0)
    gain = _mean(lines, lambda line: _agreement(line, line["weight"]) - _agreement(line, line[best]))
    found = {
        "pictures": len({line["picture"] for line in lines}),
        "questions": len(lines),
        "chance": _mean(lines, lambda line: 1 / len(line["weight"])),
        "scores": scores,
        "alpha": balance(HERO.alpha, HERO.signal),
        "sweep": sweep,
        "best_signal": best,
        "gain": gain,
        "differ": _differ(lines),
        "example": example(lines),
    }
    return {**found, "verdict": judged(scores["weight"]["within"], gain, best)}


def judged(weight: Number, gain: Number, best: str) -> dict[str, Any]:
    """Write the sentence of this finding."""
    told = (
        f"the rank correlation of HERO's weight of a tile with its worth is {verdict.spell(weight)}, which "
        f"is {verdict.spell(gain, sign=True)} against {best} alone, the better of the two signals"
    )
    return verdict.verdict(FINDING, [weight, gain], told)


def falls(line: Record) -> Floats:
    """True importance of each local tile: the fall of the log-likelihood without it, (K,)."""
    return line["log"] - np.array(line["log_without"])


def mixed(line: Record, alpha: float) -> Sequence[float]:
    """Weigh tiles by saliency and relevance alone, at another alpha than HERO's."""
    s, r = (_softmax(np.array(line[n]) / t) for n, t in zip(SIGNALS, (HERO.t_cls, HERO.t_clip), strict=True))
    return list(alpha * s + (1 - alpha) * r)


def example(lines: Sequence[Record]) -> list[Record]:
    """Find two questions about one picture, with as many tiles as can be, whose most important tiles differ most."""
    best: tuple[float, list[Record]] = (0.0, [])
    most = max((len(line["weight"]) for line in lines), default=0)
    for first in lines:
        for second in lines:
            if first["picture"] == second["picture"] and len(first["weight"]) == most:
                one, two = falls(first), falls(second)
                if one.argmax() < two.argmax() and first["right"] and second["right"]:
                    best = max(best, (float(min(one.max(), two.max())), [first, second]), key=lambda pair: pair[0])
    return best[1]


def _score(lines: Sequence[Record], score: Score) -> dict[str, Any]:
    pairs: dict[str, list[tuple[float, float]]] = {}
    answers: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        lost = float(line["right"]) - np.array(line["right_without"], dtype=np.float64)
        pairs.setdefault(line["picture"], []).extend(zip(score(line), falls(line), strict=True))
        answers.setdefault(line["picture"], []).extend(zip(score(line), lost, strict=True))
    kinds = dict.fromkeys(line["kind"] for line in lines if line["kind"])
    return {
        "within": _within(lines, score),
        "pooled": numbers.pooled(pairs),
        "pooled_accuracy": numbers.pooled(answers),
        "finds": _mean(lines, lambda line: float(np.argmax(score(line)) == falls(line).argmax())),
        "kinds": {kind: _within([line for line in lines if line["kind"] == kind], score) for kind in kinds},
    }


def _within(lines: Sequence[Record], score: Score) -> Number:
    """Mean rank correlation over the tiles of each picture and question; those of equal scores are left out."""
    return _mean(lines, lambda line: _agreement(line, score(line)))


def _agreement(line: Record, scores: Sequence[float]) -> float:
    return numbers.rank_correlation(scores, list(falls(line)))


def _mean(lines: Sequence[Record], value: Callable[[Record], float]) -> Number:
    return numbers.mean(numbers.collect((line["picture"], value(line)) for line in lines))


def _differ(lines: Sequence[Record]) -> dict[str, Number]:
    """Measure how tiles differ: log-likelihood lost, and accuracy left, without the most and the least important."""

    def without(line: Record, last: bool) -> float:
        return float(line["right_without"][int(falls(line).argmax() if last else falls(line).argmin())])

    return {
        "most": _mean(lines, lambda line: float(falls(line).max())),
        "least": _mean(lines, lambda line: float(falls(line).min())),
        "accuracy": _mean(lines, lambda line: float(line["right"])),
        "accuracy_without_most": _mean(lines, lambda line: without(line, True)),
        "accuracy_without_least": _mean(lines, lambda line: without(line, False)),
    }


def _softmax(values: Floats) -> Floats:
    powers = np.exp(values - values.max())
    return powers / powers.sum()
