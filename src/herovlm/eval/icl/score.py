"""What an answer names, and how good many answers are: mean average precision and accuracy.

The authors' parser and metrics are not public; these are the usual ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from herovlm.extras import require

FINAL = re.compile(r"final answer is\s*:?\s*", re.IGNORECASE)


def named(answer: str, known: Sequence[str]) -> tuple[str, ...]:
    """Read the labels behind the last "The final answer is", in their order; what is no label is left out.

    A list in brackets ends with them, any other with its line; quotes and case are nothing.  An answer without these
    words counts where it is nothing but labels.
    """
    spelled = {one.casefold(): one for one in known}
    behind = FINAL.split(answer)
    text = behind[-1].strip()
    inside = re.match(r"\[([^\]\n]*)", text)
    told = inside[1] if inside else text.split("\n")[0]
    words = [word.strip(" \t'\"`.*[]").casefold() for word in re.split(r"[,;]", told)]
    found = tuple(dict.fromkeys(spelled[word] for word in words if word in spelled))
    return found if len(behind) > 1 or all(word in spelled for word in words) else ()


def vote(examples: Sequence[Sequence[str]], known: Sequence[str]) -> dict[str, float]:
    """Share of the examples that have each label: what one would say by looking at nothing but them."""
    return {one: sum(one in labels for labels in examples) / max(1, len(examples)) for one in known}


def best(scores: dict[str, float], examples: Sequence[Sequence[str]]) -> str:
    """Return the label with the highest score; of equal ones that of the nearest example."""
    order = [label for labels in examples for label in labels] + list(scores)
    return max(dict.fromkeys(order), key=lambda label: scores[label])


def mean_average_precision(
    scores: Sequence[dict[str, float]], wanted: Sequence[Sequence[str]], known: Sequence[str]
) -> float:
    """Mean over the labels that somebody has of the average precision of its scores; scikit-learn's.

    Args:
        scores: of each answer, a score of each label; 1 and 0 where an answer names labels and no more.
        wanted: right labels of each.
        known: all labels.

    Returns:
        In [0, 1]; 0 where nobody has a label.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    metrics = require("sklearn.metrics", extra="eval")
    found = []
    for label in known:
        true = np.array([label in labels for labels in wanted], dtype=int)
        if true.any():
            found.append(metrics.average_precision_score(true, [one.get(label, 0.0) for one in scores]))
    return float(np.mean(found)) if found else 0.0


def right(said: Sequence[str], wanted: Sequence[str]) -> float:
    """Whether the first label named is a right one; nobody who names none is right."""
    return float(bool(said) and said[0] in wanted)


def table(said: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Scores of answers that name labels and no more."""
    return [dict.fromkeys(labels, 1.0) for labels in said]
