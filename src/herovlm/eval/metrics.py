"""How an answer is scored: one function a metric, and how the scores of many questions become one number.

A question gives a score in [0, 1] and a few counts; a metric's total is a function of the sums of these counts, so that
any choice of questions, a bootstrap sample for one, can be scored without going through the answers again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from herovlm import registry
from herovlm.errors import UsageError, shortened
from herovlm.extras import require

Floats = Any  # numpy array of float64
ANLS_THRESHOLD, TOLERANCE = 0.5, 0.05


def exact_match(answer: str, wanted: Sequence[str]) -> float:
    """Whether the answer is one of the wanted ones; case, and white space around and between words, are nothing."""
    return float(_folded(answer) in {_folded(one) for one in wanted})


def anls(answer: str, wanted: Sequence[str]) -> float:
    """Score 1 - NL, NL the edit distance over the longer length, and 0 from NL = 0.5 on; the best of the wanted.

    Its mean is the ANLS of ST-VQA and DocVQA (arXiv 1905.13648, 2007.00398).

    Raises:
        MissingExtraError: rapidfuzz is not installed.
    """
    near = require("rapidfuzz.distance.Levenshtein", extra="eval").normalized_similarity
    best: float = max(near(_folded(answer), _folded(one)) for one in wanted)
    return best if best > 1 - ANLS_THRESHOLD else 0.0


def relaxed_accuracy(answer: str, wanted: Sequence[str]) -> float:
    """Whether a number is within 5 % of the wanted one, other words the same but for case (ChartQA, arXiv 2203.10244).

    "12%" is 0.12; only 0 is within 5 % of 0.
    """
    return float(any(_near(answer, one) for one in wanted))


def vqa_accuracy(answer: str, wanted: Sequence[str]) -> float:
    """Mean over all choices of all annotators but one of min(how many of them said so / 3, 1) (arXiv 1505.00468).

    Made for ten annotators; a single wanted answer is compared as it is.  Before, case, articles, punctuation and
    apostrophes are removed, and number words up to ten become digits.
    """
    told, said = plain(answer), [plain(one) for one in wanted]
    if len(said) == 1:
        return float(told == said[0])
    same = said.count(told)
    return sum(min((same - (one == told)) / 3, 1.0) for one in said) / len(said)


def pope_f1(answer: str, wanted: Sequence[str]) -> float:
    """Whether yes or no is right; an answer is no where its first sentence has "no" or "not", else yes.

    The total is the F1 score of "yes", as POPE reports it (arXiv 2305.10355).
    """
    return float(_is_yes(answer) == _is_yes(wanted[0]))


def plain(text: str) -> str:
    """Normalise an answer as the VQA evaluation does: lower case, digits, no articles, no punctuation."""
    text = re.sub(r"(?<=\d),(?=\d)", "", " ".join(text.lower().split()).replace("'", "").replace("’", ""))
    text = re.sub(r"\.(?!\d)", "", text)
    text = re.sub(r'[;/\[\]"{}()=+\\_\-><@`,?!]', " ", text)
    return " ".join(_DIGITS.get(word, word) for word in text.split() if word not in ("a", "an", "the"))


_DIGITS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}
_DIGITS |= {"seven": "7", "eight": "8", "nine": "9", "ten": "10"}


def mean(sums: Floats) -> Floats:
    """Sums of (score, 1), (..., 2) -> mean score, (...); nan where nothing was asked."""
    with np.errstate(invalid="ignore"):
        return sums[..., 0] / sums[..., 1]


def f1(sums: Floats) -> Floats:
    """Counts of (hits, false alarms, misses), (..., 3) -> F1 score, (...); 0 without a hit."""
    hits, errors = sums[..., 0], sums[..., 1] + sums[..., 2]
    return np.where(hits > 0, 2 * hits / np.maximum(2 * hits + errors, 1), 0.0)


def _score_of_one(score: float, answer: str, wanted: Sequence[str]) -> tuple[float, ...]:
    return score, 1.0


def _hit_or_miss(score: float, answer: str, wanted: Sequence[str]) -> tuple[float, ...]:
    said, true = _is_yes(answer), _is_yes(wanted[0])
    return float(said and true), float(said and not true), float(true and not said)


@dataclass(frozen=True)
class Metric:
    """A score a question, what is counted of a question, and the total of the sums of these counts, in [0, 1]."""

    name: str
    title: str  # what a table calls it
    score: Callable[[str, Sequence[str]], float]
    counts: Callable[[float, str, Sequence[str]], tuple[float, ...]] = _score_of_one  # of (score, answer, wanted)
    total: Callable[[Floats], Floats] = mean
    only: tuple[str, ...] = ()  # the only answers that may be wanted


METRICS = {
    metric.name: metric
    for metric in (
        Metric("exact_match", "exact match", exact_match),
        Metric("anls", "ANLS", anls),
        Metric("relaxed_accuracy", "relaxed accuracy", relaxed_accuracy),
        Metric("vqa_accuracy", "VQA accuracy", vqa_accuracy),
        Metric("pope_f1", 'F1 of "yes"', pope_f1, _hit_or_miss, f1, ("yes", "no")),
    )
}


def find(name: str) -> Metric:
    """Find a metric by name.

    Raises:
        UsageError: there is none of this name.
    """
    if not isinstance(name, str) or name not in METRICS:
        raise UsageError(f"no metric is called {shortened(name)}{registry.did_you_mean(shortened(name), METRICS)}")
    return METRICS[name]


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _near(answer: str, wanted: str) -> bool:
    said, true = _number(answer), _number(wanted)
    if said is None or true is None:
        return _folded(answer) == _folded(wanted)
    return abs(said - true) <= TOLERANCE * abs(true)


def _number(text: str) -> float | None:
    text = text.strip()
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None


def _is_yes(text: str) -> bool:
    words = re.findall(r"\w+", text.split(".")[0].casefold())
    return not {"no", "not"} & set(words)
