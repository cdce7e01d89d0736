"""A report in a folder: summary, tables, curves, and one page that needs nothing beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from herovlm.errors import UsageError
from herovlm.eval import curves, tables
from herovlm.eval.plan import FULL
from herovlm.templates import environment

Summary = Mapping[str, Any]


def write(summary: Summary, folder: Path) -> Path:
    """Write summary.json, table.md, table.csv, the curves of each table as PNG and SVG, and report.html; return that.

    Raises:
        MissingExtraError: matplotlib is not installed.
        UsageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text(dumped(summary), "utf-8")
        (folder / "table.md").write_text(tables.markdown(summary), "utf-8")
        (folder / "table.csv").write_text(tables.comma_separated(summary), "utf-8")
        drawings = [
            curves.draw(table, folder / name_of(table))[1].read_text("utf-8") if table["configs"] else ""
            for table in summary["tables"]
        ]
        (folder / "report.html").write_text(page(summary, drawings), "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {folder} ({error.strerror}); give another --out") from None
    return folder / "report.html"


def dumped(summary: Summary) -> str:
    """Write a summary as JSON."""
    return json.dumps(summary, indent=2, ensure_ascii=False) + "\n"


def name_of(table: Mapping[str, Any]) -> str:
    """Make a file name for a table."""
    return re.sub(r"[^\w.-]+", "-", f"{table['task']}-{table['split']}-{Path(table['model']).name}")


def page(summary: Summary, drawings: list[str]) -> str:
    """Write the page; `drawings` are the curves of each table as SVG."""
    parts = [_part(table, svg) for table, svg in zip(summary["tables"], drawings, strict=True)]
    names = list(dict.fromkeys(f"{table['task']} {table['split']}" for table in summary["tables"]))
    about = {key: summary[key] for key in ("versions", "machine", "commit")}
    template = environment("eval").get_template("report.html.j2")
    return template.render(heading=f"What keeping less costs: {', '.join(names)}", parts=parts, **about) + "\n"


def _part(table: Mapping[str, Any], svg: str) -> dict[str, Any]:
    """Prepare one table: cells with what stands beside them in small, and what they say when pointed at."""
    columns, rows = tables.grid(table)
    found = {(tables.label(config), tables.heading(config["keep"])): config for config in table["configs"].values()}
    return {
        "title": tables.title(table),
        "columns": columns,
        "rows": [
            [_cell(text, found.get((row[0], column))) for column, text in zip(columns, row, strict=True)]
            for row in rows
        ],
        "notes": tables.notes(table),
        "drawing": svg[svg.find("<svg") :],
        "kinds": list(dict.fromkeys(kind for config in table["configs"].values() for kind in config["kinds"])),
        "configs": table["configs"],
        "facts": table["model_facts"],
    }


def _cell(text: str, config: Mapping[str, Any] | None) -> dict[str, str]:
    if config is None or not text:
        return {"text": text, "small": "", "tip": ""}
    score, _, rest = text.partition(" ")
    share = "" if config["share_of_full"] is None else f"{config['share_of_full']:.1f} % of {FULL.split('@')[0]}; "
    tests = [f"{t['difference']:+.1f} to {t['with']} (p {t['holm']:.4f})" for t in config["against"].values()]
    tip = f"{share}{config['mean_positions']:.1f} positions" + "".join(f"; {test}" for test in tests)
    return {"text": score, "small": rest, "tip": tip}
