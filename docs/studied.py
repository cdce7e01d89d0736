"""What `herovlm study` found with the demo model: the sentence, tables and notes of each finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from herovlm.study import tables

Result = Mapping[str, Any]


def about(result: Result) -> list[str]:
    """Describe what was measured on what, and the rule of the sentences."""
    task, facts, versions = result["task"], result["model_facts"], result["versions"]
    return [
        f"Measured on {task['split']} pictures of the task {task['name']} with the {result['model']} model "
        f"({facts['parameters']:,} parameters, {facts['dtype']} on {facts['device']}; torch {versions['torch']}, "
        f"transformers {versions['transformers']}).  Brackets are 95 % bootstrap intervals over pictures.  "
        f"{result['rule']}",
    ]


def finding(name: str) -> Callable[[Result], list[str]]:
    """Write one finding: its sentence first, then the tables, then what has to be known about them."""

    def lines(result: Result) -> list[str]:
        found = result["findings"][name]
        made = [f"**{found['verdict']['sentence']}**"]
        for table in tables.TABLES[name](found):
            made += ["", f"{table.title}:", "", _row(table.columns), "|---|" + "---:|" * (len(table.columns) - 1)]
            made += [_row(row) for row in table.rows]
        for note in tables.notes(name, found):
            made += ["", note]
        return made

    return lines


BLOCKS: dict[str, Callable[[Result], list[str]]] = {
    "study": about,
    **{f"study-{name}": finding(name) for name in tables.TABLES},
}


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
