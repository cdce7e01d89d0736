"""The records of runs, put together: for each task and model a table, and in it a column of answers a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from herovlm.errors import UsageError
from herovlm.eval import metrics, records
from herovlm.eval.records import Record

Floats = Any  # numpy array of float64


@dataclass
class Column:
    """What was answered under one configuration."""

    method: str
    keep: float | int | str  # as `herovlm.budget.told` writes it; older runs have whole numbers
    original: bool
    answers: dict[str, list[Record]] = field(default_factory=dict)  # picture -> its records

    def counts(self, metric: metrics.Metric, pictures: Sequence[str], kind: str | None = None) -> Floats:
        """Sums of what the metric counts over the questions of each picture, (P, C)."""
        none = np.zeros(len(metric.counts(0.0, "", ("",))))
        return np.array([sum((_counted(metric, r) for r in self._of(p, kind)), none) for p in pictures])

    def _of(self, picture: str, kind: str | None) -> list[Record]:
        return [record for record in self.answers[picture] if kind is None or record["kind"] == kind]

    @property
    def records(self) -> list[Record]:
        """All of them."""
        return [record for some in self.answers.values() for record in some]


@dataclass
class Table:
    """Everything about one split of one task and one model."""

    task: Mapping[str, Any]  # as meta.json has it
    model: str
    facts: Mapping[str, Any]  # about the model
    columns: dict[str, Column] = field(default_factory=dict)  # name of a configuration -> its answers
    refused: dict[str, dict[str, str]] = field(default_factory=dict)  # name of a configuration -> picture -> why
    vision: dict[str, float] = field(default_factory=dict)  # picture -> seconds of the look that all shared

    @property
    def metric(self) -> metrics.Metric:
        """How answers were scored."""
        return metrics.find(self.task["metric"])


def gather(folders: Sequence[Path]) -> tuple[dict[str, Any], list[Table]]:
    """Read runs; where several have the same picture under the same configuration, the first counts.

    Returns:
        What the runs have in common (versions, machine), and the tables.

    Raises:
        UsageError: no run, no records, or runs that cannot be compared.
    """
    tables: dict[tuple[str, ...], Table] = {}
    about: dict[str, Any] = {}
    for folder in folders:
        meta = records.meta(folder)
        common = {"versions": meta["versions"], "machine": meta["machine"], "commit": meta.get("commit", "")}
        about = about or common
        _same(about["versions"], common["versions"], folder, "versions")
        tasks = {(task["name"], task["split"]): task for task in meta["settings"]["tasks"]}
        lines, closing = records.read(folder)
        fresh = {}
        for end in closing:
            task, model = tasks[end["task"], end["split"]], end["model"]
            told = {key: value for key, value in task.items() if key != "pictures"}
            new = Table(told, model, meta[f"model {model}"])
            table = tables.setdefault((end["task"], end["split"], model), new)
            _same(table.task, new.task, folder, f"the task {end['task']}")
            _same(table.facts, new.facts, folder, f"the model {model}")
            table.vision.setdefault(end["picture"], end["seconds"]["vision"])
            for name, why in end["refused"].items():
                table.refused.setdefault(name, {})[end["picture"]] = why
            fresh[records.group_of(end)] = table
        _add(lines, fresh)
    if not any(table.columns for table in tables.values()):
        raise UsageError(f"no records in {', '.join(map(str, folders))}; 'herovlm eval' writes them")
    return about, list(tables.values())


def _add(lines: Sequence[Record], tables: Mapping[records.Group, Table]) -> None:
    """Put the records of one run where they belong, unless an earlier run had the picture."""
    found: dict[tuple[int, str, str], list[Record]] = {}
    for line in lines:
        table, original = tables[records.group_of(line)], line["positions"] == "original"
        name = f"{line['method']}@{line['keep']}{':original' * original}"
        table.columns.setdefault(name, Column(line["method"], line["keep"], original))
        found.setdefault((id(table), name, line["picture"]), []).append(line)
    known = {id(table): table for table in tables.values()}
    for (at, name, picture), some in found.items():
        known[at].columns[name].answers.setdefault(picture, some)


def _same(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path, what: str) -> None:
    different = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if different:
        key = different[0]
        raise UsageError(
            f"{folder} differs from the runs before it in {what}: {key} is {new.get(key)!r}, not {old.get(key)!r}; "
            "report them one by one"
        )


def _counted(metric: metrics.Metric, record: Record) -> Floats:
    return np.array(metric.counts(record["score"], record["answer"], record["wanted"]))
