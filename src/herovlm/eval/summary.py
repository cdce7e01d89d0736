"""What runs say: for each task and model, what every configuration scored, and which differences are real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from herovlm.eval import stats
from herovlm.eval.gather import Column, Table, gather
from herovlm.eval.plan import FULL

REFERENCES = ("hero", "random")  # whom every configuration is compared with, at its own keep
LEVEL = 0.05


def summarise(folders: Sequence[Path]) -> dict[str, Any]:
    """Sum up runs as one JSON object.

    Returns:
        Versions and machine, and `tables`, one for each task and model.  Scores and differences are in percent, with
        95 % bootstrap intervals over pictures; p values are of paired permutation tests, `holm` is p after Holm's
        correction over all tests of the table, and `noise` whether that is 0.05 or more.

    Raises:
        UsageError: no run, no records, or runs that cannot be compared.
    """
    about, tables = gather(folders)
    return {"benchmark": "eval", **about, "tables": [_table(table) for table in tables]}


def _table(table: Table) -> dict[str, Any]:
    configs = {name: _config(table, column) for name, column in table.columns.items()}
    for name, config in configs.items():
        full = None if {FULL, name} & {*table.refused, *table.failed} else configs.get(FULL)
        config["share_of_full"] = _percent(config["accuracy"] / full["accuracy"]) if full and full["accuracy"] else None
        config["against"] = _against(table, name)
    _corrected(configs)
    every = [record["of"] for column in table.columns.values() for record in column.records]
    return {
        "task": table.task["name"],
        "version": table.task["version"],
        "split": table.task["split"],
        "metric": f"{table.metric.title}, percent",
        "asked": dict(table.task),
        "model": table.model,
        "model_facts": dict(table.facts),
        "mean_positions_full": round(float(np.mean(every)), 1) if every else None,
        "vision_seconds": round(float(np.mean(list(table.vision.values()))), 4) if table.vision else None,
        "configs": configs,
        "refused": _told(table, table.refused),
        "failed": _told(table, table.failed),
        "unusable": table.unusable,
    }


def _told(table: Table, lost: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Count on how many pictures each configuration has no answer, and why on the first of them."""
    return {
        name: {"pictures": len(of), "of": len(table.vision), "why": next(iter(of.values()))}
        for name, of in lost.items()
    }


def _corrected(configs: dict[str, dict[str, Any]]) -> None:
    """Correct the p values of a table for their number; hero with random and random with hero are one test."""
    pairs: dict[frozenset[str], list[dict[str, Any]]] = {}
    for name, config in configs.items():
        for test in config["against"].values():
            pairs.setdefault(frozenset((name, test["with"])), []).append(test)
    for tests, p in zip(pairs.values(), stats.holm([tests[0]["p"] for tests in pairs.values()]), strict=True):
        for test in tests:
            test["holm"], test["noise"] = round(p, 4), p >= LEVEL


def _config(table: Table, column: Column) -> dict[str, Any]:
    """Score one configuration: overall with interval, and by kind of question."""
    pictures, lines, total = list(column.answers), column.records, table.metric.total
    counts = column.counts(table.metric, pictures)
    kinds = [kind for kind in dict.fromkeys(line["kind"] for line in lines) if kind]
    return {
        "method": column.method,
        "keep": column.keep,
        "positions": lines[0]["positions"],
        "accuracy": _percent(total(counts.sum(0))),
        "interval95": [_percent(end) for end in stats.interval(counts, total)],
        "kinds": {kind: _percent(total(column.counts(table.metric, pictures, kind).sum(0))) for kind in kinds},
        "mean_positions": round(float(np.mean([line["kept"] for line in lines])), 1),
        "of": round(float(np.mean([line["of"] for line in lines])), 1),
        "scenes": len(pictures),
        "questions": len(lines),
        "seconds": {
            stage: round(float(np.mean([line["seconds"][stage] for line in lines])), 6)
            for stage in ("select", "generate")
        },
    }


def _against(table: Table, name: str) -> dict[str, dict[str, Any]]:
    """Compare a configuration with the references at the same keep, picture by picture."""
    ours, total, found = table.columns[name], table.metric.total, {}

    def change(mine: Any, theirs: Any) -> Any:
        return total(mine) - total(theirs)

    for reference in REFERENCES:
        names = [f"{reference}@{ours.keep}{':original' * ours.original}", f"{reference}@{ours.keep}"]
        other = next((one for one in names if one in table.columns and one != name), None)
        if other is None or name == FULL:
            continue
        pictures = [picture for picture in ours.answers if picture in table.columns[other].answers]
        if not pictures:
            continue
        mine, theirs = (column.counts(table.metric, pictures) for column in (ours, table.columns[other]))
        ends = stats.interval_between(mine, theirs, change)
        found[reference] = {
            "with": other,
            "difference": _percent(change(mine.sum(0), theirs.sum(0))),
            "interval95": [_percent(end) for end in ends],
            "p": round(stats.p_value(mine, theirs, total), 4),
        }
    return found


def _percent(share: Any) -> float:
    return round(100 * float(share), 1)
