"""A summary as tables: methods down, budgets across, and a mark where a difference is real."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from herovlm import budget
from herovlm.eval.plan import FULL

Cells = list[list[str]]
FEW = 20  # pictures; with fewer, a bootstrap by percentiles tells too little


@dataclass(frozen=True)
class Marks:
    """How a cell says what its difference to the references is worth."""

    same: str  # not distinguishable from the reference, which is hero
    better: str
    worse: str
    chance: str  # not distinguishable from random

    def legend(self, marked: str, reference: str) -> str:
        """Explain the marks that stand in a table."""
        words = {
            self.same: f"not distinguishable from {reference}",
            self.better: f"better than {reference}",
            self.worse: f"worse than {reference}",
            self.chance: "not distinguishable from random",
        }
        return ", ".join(f"{sign} {meaning}" for sign, meaning in words.items() if sign in marked)


PRETTY, ASCII = Marks("=", "▲", "▼", "○"), Marks("=", "+", "-", "o")


def grid(table: Mapping[str, Any], marks: Marks = PRETTY, *, intervals: bool = True) -> tuple[list[str], Cells]:
    """Lay a table of a summary out: columns, and a row a method, best first; a method without some number is last."""
    configs = {name: config for name, config in table["configs"].items() if name != FULL}
    keeps = sorted({config["keep"] for config in configs.values()}, key=budget.rank)
    rows: dict[str, dict[Any, Mapping[str, Any]]] = {}
    for name, config in configs.items():
        if not incomplete(table, name):
            rows.setdefault(label(config), {})[config["keep"]] = config
    columns = ["method", *map(heading, keeps)]
    order = sorted(rows, key=lambda name: (-len(rows[name]), -sum(c["accuracy"] for c in rows[name].values())))
    cells = [[name, *(cell(rows[name].get(keep), marks, intervals) for keep in keeps)] for name in order]
    return columns, cells


def heading(keep: float | str) -> str:
    """What a column is called: "keep=0.2", "tokens=64"."""
    return budget.label(keep).replace(" ", "=", 1)


def incomplete(table: Mapping[str, Any], name: str) -> bool:
    """Whether a configuration has no answer about some picture, so that its numbers are of other pictures."""
    return name in table["refused"] or name in table.get("failed", ())


def title(table: Mapping[str, Any]) -> str:
    """What a table is about: task, split and model."""
    return f"{table['task']} {table['split']}, {table['model']}"


def label(config: Mapping[str, Any]) -> str:
    """What a row is called."""
    return f"{config['method']}{':original' * (config['positions'] == 'original')}"


def cell(config: Mapping[str, Any] | None, marks: Marks, intervals: bool) -> str:
    """Write a score with its interval and its marks; nothing where there is none."""
    if config is None:
        return ""
    low, high = config["interval95"]
    parts = [f"{config['accuracy']:.1f}", f"[{low:.1f}, {high:.1f}]" if intervals else ""]
    random = config["against"].get("random")
    for other in (test for name, test in config["against"].items() if name != "random"):
        parts.append(marks.same if other["noise"] else marks.better if other["difference"] > 0 else marks.worse)
    if random and random["noise"]:
        parts.append(marks.chance)
    return " ".join(part for part in parts if part)


def reference(configs: Mapping[str, Any]) -> str:
    """Name the method that the others are compared with, random aside."""
    tests = (name for config in configs.values() for name in config.get("against", {}) if name != "random")
    return next(tests, "hero")


def notes(table: Mapping[str, Any], marks: Marks = PRETTY) -> list[str]:
    """What has to be said below a table: what is measured, what the marks mean, what was refused."""
    some = next(iter(table["configs"].values()), None)
    if some is None:
        return ["Nothing was answered.", *_lost(table)]
    of = ((some["questions"], "question"), (some["scenes"], "picture"))
    asked = " about ".join(f"{number:,} {noun}{'s' * (number != 1)}" for number, noun in of)
    lines = [f"{table['metric']}, {asked}; 95 % bootstrap intervals over pictures."]
    if FULL in table["configs"]:
        full = cell(table["configs"][FULL], marks, intervals=True)
        lines.append(f"The full model, {table['mean_positions_full']:,.0f} visual positions on average: {full}.")
    if some["scenes"] < FEW:
        lines.append(f"Fewer than {FEW} pictures: these intervals are too narrow.")
    signs = " ".join(text for row in grid(table, marks)[1] for text in row[1:])
    legend = marks.legend(signs, reference(table["configs"]))
    if legend:
        lines.append(f"{legend} (paired permutation tests over pictures at the same keep, Holm, 5 %).")
    return lines + _lost(table)


def _lost(table: Mapping[str, Any]) -> list[str]:
    """List what has no answer, and why."""
    lines = []
    for what, word in (("refused", "cannot"), ("failed", "FAILED")):
        for name, lost in table.get(what, {}).items():
            lines.append(f"{name} {word} on {lost['pictures']:,} of {lost['of']:,} pictures: {lost['why']}")
    unusable = table.get("unusable", {})
    if unusable:
        name, why = next(iter(unusable.items()))
        which = f"{name} " if len(unusable) == 1 else f"{len(unusable):,} pictures, {name} for one, "
        lines.append(f"{which}could not be used and is in no number: {why}")
    return lines


def markdown(summary: Mapping[str, Any], marks: Marks = PRETTY) -> str:
    """Write all tables of a summary as Markdown."""
    lines = []
    for table in summary["tables"]:
        columns, rows = grid(table, marks)
        lines += [f"## {title(table)}", "", _row(columns), "|---" * len(columns) + "|"]
        lines += [_row([f"`{row[0]}`", *row[1:]]) for row in rows]
        lines += ["", *(line + "\n" for line in notes(table, marks))]
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"


def comma_separated(summary: Mapping[str, Any]) -> str:
    """Write every configuration of a summary as a line of CSV; scores and differences in percent."""
    rows = [_flat(table, config) for table in summary["tables"] for config in table["configs"].values()]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(table: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one configuration out in a row."""
    low, high = config["interval95"]
    row = {name: table[name] for name in ("task", "version", "split", "model", "metric")}
    row |= {name: config[name] for name in ("method", "keep", "positions", "accuracy")} | {"low": low, "high": high}
    row |= {name: config[name] for name in ("share_of_full", "mean_positions", "scenes", "questions")}
    row |= {f"seconds_{stage}": value for stage, value in config["seconds"].items()}
    for reference, test in config["against"].items():
        row |= {f"against_{reference}": test["difference"], f"against_{reference}_low": test["interval95"][0]}
        row |= {f"against_{reference}_high": test["interval95"][1], f"against_{reference}_p_holm": test["holm"]}
    return row | {f"kind_{kind}": value for kind, value in config["kinds"].items()}
