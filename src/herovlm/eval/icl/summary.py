"""What the records of a run say: how good the answers are under every budget, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from herovlm.errors import UsageError
from herovlm.eval import records, stats
from herovlm.eval.icl import score
from herovlm.eval.metrics import mean

Line = records.Record


def summarise(folder: Path) -> dict[str, Any]:
    """Sum up a run: a row for every budget, one for a vote of the examples, and how well the examples were found.

    Raises:
        UsageError: the folder holds no such run, or its records are damaged.
        MissingExtraError: scipy or scikit-learn is not installed.
    """
    meta = records.meta(folder)
    settings = meta.get("settings", {})
    if "shots" not in settings:
        raise UsageError(f"{folder} is no run of herovlm icl; give another --out")
    lines, ends = records.read(folder)
    known, good = settings["labels"], [end for end in ends if "unusable" not in end]
    rows: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        rows.setdefault((line["method"], _told(line)), []).append(line)
    full = {line["sample"]: line for line in rows.get(("full", _told({"keep": [1.0], "query": 1.0})), [])}
    return {
        **{name: settings[name] for name in ("data", "model", "shots", "retriever", "generation")},
        "people": len(good),
        "unusable": {end["picture"]: end["unusable"] for end in ends if "unusable" in end},
        "refused": [f"{one} for {end['picture']}: {why}" for end in good for one, why in end["refused"].items()],
        "rows": [_row(name, of, known, full) for name, of in rows.items()],
        "vote": _vote(good, known),
        "map_of_nothing": round(
            score.mean_average_precision([{} for _ in good], [end["wanted"] for end in good], known), 6
        ),
        "retrieval": _retrieval(good),
        **{name: value for name, value in meta.items() if name in ("versions", "machine", "commit")},
    }


def _told(line: Line) -> str:
    examples = ",".join(map(str, line["keep"]))
    return examples if line["query"] == 1.0 else f"{examples}|{line['query']}"


def _row(name: tuple[str, str], lines: Sequence[Line], known: Sequence[str], full: dict[str, Line]) -> dict[str, Any]:
    """Sum up the answers under one budget."""
    both = [line for line in lines if line["sample"] in full]
    said, wanted = [line["said"] for line in lines], [line["wanted"] for line in lines]
    return {
        "method": name[0],
        "examples": name[1],
        "positions": round(float(np.mean([sum(line["kept"]) for line in lines])), 1),
        "of": round(float(np.mean([sum(line["of"]) for line in lines])), 1),
        "length": round(float(np.mean([line["length"] for line in lines])), 1),
        "seconds": {
            what: round(median(line["look"] if what == "look" else line["seconds"][what] for line in lines), 6)
            for what in ("look", "select", "first", "rest")
        },
        "named": round(float(np.mean([bool(one) for one in said])), 6),
        **accuracy([line["score"] for line in lines]),
        "map": round(score.mean_average_precision(score.table(said), wanted, known), 6),
        "same_as_full": _share([set(line["said"]) == set(full[line["sample"]]["said"]) for line in both]),
        "same_words": _share([line["answer"] == full[line["sample"]]["answer"] for line in both]),
    }


def accuracy(right: Sequence[float]) -> dict[str, Any]:
    """Mean, with its 95 % bootstrap interval over persons."""
    counts = np.array([[float(one), 1.0] for one in right])
    return {
        "accuracy": round(float(np.mean(right)), 6),
        "interval95": [round(end, 6) for end in stats.interval(counts, mean)],
    }


def _share(true: Sequence[bool]) -> float | None:
    return round(float(np.mean(true)), 6) if true else None


def _vote(ends: Sequence[Line], known: Sequence[str]) -> dict[str, Any] | None:
    """Sum up what the examples' labels alone would say."""
    asked = [end for end in ends if end["examples"]]
    if not asked:
        return None
    wanted = [end["wanted"] for end in asked]
    return {
        **accuracy([float(end["voted"] in end["wanted"]) for end in asked]),
        "map": round(score.mean_average_precision([end["votes"] for end in asked], wanted, known), 6),
    }


def _retrieval(ends: Sequence[Line]) -> dict[str, Any] | None:
    """How often the nearest example shares a label."""
    asked = [end for end in ends if end["examples"]]
    if not asked:
        return None
    return accuracy([float(bool({*end["nearest"]} & {*end["wanted"]})) for end in asked])
