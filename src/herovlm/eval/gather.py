"""The records of runs, put together: for each task and model a table, and in it a column of answers a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from herovlm import budget
from herovlm.errors import UsageError, reason, shortened
from herovlm.eval import metrics, records
from herovlm.eval.records import META, Record

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
    failed: dict[str, dict[str, str]] = field(default_factory=dict)  # the same, of what went wrong
    unusable: dict[str, str] = field(default_factory=dict)  # picture that nobody could be asked about -> why
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
        UsageError: no run, no records, records that are damaged, or runs that cannot be compared.
    """
    tables: dict[tuple[str, ...], Table] = {}
    about: dict[str, Any] = {}
    for folder in folders:
        meta = records.meta(folder)
        try:
            about = _gathered(folder, meta, about, tables)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise UsageError(
                f"{folder} is not as 'herovlm eval' has written it ({reason(error)}): {records.META} or the records "
                "were changed by hand, or another program made them; put a copy back, or make the run again elsewhere"
            ) from None
    if not any(table.columns for table in tables.values()):
        raise UsageError(_nothing(folders, list(tables.values())))
    return about, list(tables.values())


def _gathered(
    folder: Path, meta: Mapping[str, Any], about: dict[str, Any], tables: dict[tuple[str, ...], Table]
) -> dict[str, Any]:
    """Put one run into the tables; what it has in common with those before it."""
    common = {"versions": meta["versions"], "machine": meta["machine"], "commit": meta.get("commit", "")}
    about = about or common
    _same(about["versions"], common["versions"], folder, "versions")
    tasks = {(task["name"], task["split"]): task for task in meta["settings"]["tasks"]}
    for task in tasks.values():
        _ = metrics.find(task["metric"]), task["version"]
    lines, closing = records.read(folder, partial(wrong, tasks, meta["settings"]["configs"]))
    fresh = {}
    for end in closing:
        task, model, picture = tasks[end["task"], end["split"]], end["model"], end["picture"]
        told = {key: value for key, value in task.items() if key != "pictures"}
        new = Table(told, model, meta[f"model {model}"])
        table = tables.setdefault((end["task"], end["split"], model), new)
        _same(table.task, new.task, folder, f"the task {end['task']}")
        _same(table.facts, new.facts, folder, f"the model {model}")
        if "unusable" in end:
            table.unusable.setdefault(picture, end["unusable"])
            continue
        table.vision.setdefault(picture, end["seconds"]["vision"])
        for known, found in ((table.refused, end["refused"]), (table.failed, end.get("failed", {}))):
            for name, why in found.items():
                known.setdefault(name, {})[picture] = why
        fresh[records.group_of(end)] = table
    _add(lines, fresh)
    for table in tables.values():
        table.unusable = {picture: why for picture, why in table.unusable.items() if picture not in table.vision}
    return about


Tasks = Mapping[tuple[str, str], Mapping[str, Any]]  # name and split -> as meta.json has it


def wrong(tasks: Tasks, configs: Sequence[str], lines: list[Record], end: Record) -> str:
    """Describe what is wrong with the records of a picture, if anything; `tasks` and `configs` are what was asked."""
    for line in lines:
        lost = _amiss("a record", line, RIGHT)
        if lost:
            return lost
        if line["kept"] > line["of"] and "facts" not in line:  # a strategy has facts, and counts all its passes
            return f"a record that kept {line['kept']} of {line['of']}"
    names = [(line["sample"], line["method"], line["keep"], line["positions"]) for line in lines]
    twice = next((name for name in names if names.count(name) > 1), None) if len({*names}) < len(names) else None
    if twice is not None:
        return f"{twice[1]}@{twice[2]} answers {twice[0]!r} twice"
    end = {"failed": {}, **end}  # older runs have no failures
    known = UNUSABLE if "unusable" in end else CLOSING
    return _amiss("a closing line", end, known) or _another(tasks, lines, end) or _incomplete(configs, lines, end)


def _another(tasks: Tasks, lines: Sequence[Record], end: Record) -> str:
    """Describe the first line that is of another version of the task."""
    version = tasks[end["task"], end["split"]]["version"]
    other = next((line for line in (*lines, end) if line.get("version") != version), None)
    if other is None:
        return ""
    return f"version {shortened(other.get('version'))} of the task {end['task']}, of which {META} has {version!r}"


def _incomplete(configs: Sequence[str], lines: Sequence[Record], end: Record) -> str:
    """Describe what is missing or too much: every configuration that did not fail answers every question once."""
    if "unusable" in end:
        return f"{len(lines)} records of a picture that could not be used" if lines else ""
    wanted = {*configs} - {*end["refused"], *end["failed"]}
    found = {_name(line) for line in lines}
    samples = {line["sample"] for line in lines}
    if wanted - found:
        return f"no answer of {min(wanted - found)!r}"
    if found - wanted:
        return f"answers of {min(found - wanted)!r}, which was not asked or could not answer"
    if found and len(samples) != end["questions"]:
        return f"answers to {len(samples)} of {end['questions']} questions"
    whole = len(found) * len(samples)
    return "" if len(lines) == whole else f"{len(lines)} answers, not {len(found)} x {len(samples)}"


def _name(line: Record) -> str:
    """Name the configuration of a record, as `herovlm.eval.plan.Config` does."""
    return f"{line['method']}@{line['keep']}{':original' * (line['positions'] == 'original')}"


def _amiss(what: str, line: Record, right: Mapping[str, Callable[[Any], bool]]) -> str:
    """Describe the first value of a line that is missing or wrong."""
    for name, good in right.items():
        if name not in line:
            return f"{what} without {name!r}"
        if not good(line[name]):
            return f"{what} whose {name!r} is {shortened(line[name])}"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MOST


def _is_budget(value: Any) -> bool:
    try:
        return (_is_number(value) and value > 0) or (isinstance(value, str) and bool(budget.parse(value)))
    except UsageError:
        return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _are_reasons(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(why, str) for why in value.values())


def _are_seconds(value: Any, *names: str) -> bool:
    return isinstance(value, dict) and all(_is_number(value.get(name)) for name in names)


MOST = 1e12  # of anything that is counted or timed: no infinite number, none that only an integer holds
RIGHT: Mapping[str, Callable[[Any], bool]] = {  # what a record holds
    **dict.fromkeys(("sample", "kind", "method", "positions", "answer"), _is_text),
    "keep": _is_budget,
    "wanted": _are_texts,
    "score": lambda value: _is_number(value) and value <= 1,
    "kept": _is_number,
    "of": lambda value: _is_number(value) and value > 0,
    "seconds": lambda value: _are_seconds(value, "select", "generate"),
}
CLOSING: Mapping[str, Callable[[Any], bool]] = {  # what the line that closes a picture holds
    "refused": _are_reasons,
    "failed": _are_reasons,
    "questions": _is_number,
    "seconds": lambda value: _are_seconds(value, "vision"),
}
UNUSABLE: Mapping[str, Callable[[Any], bool]] = {"unusable": _is_text}


def _nothing(folders: Sequence[Path], tables: Sequence[Table]) -> str:
    """Explain why there is not one answer."""
    where = ", ".join(map(str, folders))
    for table in tables:
        for what, found in (("unusable", table.unusable), ("failed", table.failed), ("refused", table.refused)):
            for name, why in found.items():
                why = why if isinstance(why, str) else next(iter(why.values()))
                return f"nothing was answered in {where}: {name} {WORDS[what]}: {why}"
    return f"there is no answer in {where} yet; 'herovlm eval' writes them"


WORDS = {"unusable": "could not be used", "failed": "failed", "refused": "cannot"}


def _add(lines: Sequence[Record], tables: Mapping[records.Group, Table]) -> None:
    """Put the records of one run where they belong, unless an earlier run had the picture."""
    found: dict[tuple[int, str, str], list[Record]] = {}
    for line in lines:
        table, original = tables[records.group_of(line)], line["positions"] == "original"
        name = _name(line)
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
