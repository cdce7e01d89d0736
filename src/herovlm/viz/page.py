"""One self-contained HTML page: pictures with what was kept of them, and what the model answered."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from herovlm.errors import InputsError
from herovlm.types import Kept, Seen
from herovlm.viz import marks, units
from herovlm.viz.figure import figure
from herovlm.viz.inside import layers_read
from herovlm.viz.records import Answer, Report

MANY = 4  # methods: more of them are a table and small figures, not cards


def render(report: Report) -> str:
    """Return the page of a report as HTML that loads nothing from anywhere.

    Raises:
        InputsError: a question has other methods or another number of pictures than the report.
    """
    first = report.asked[0].answers if report.asked else ()
    methods = [answer.label for answer in first]
    for asked in report.asked:
        if [answer.label for answer in asked.answers] != methods:
            raise InputsError("every question of a page needs the same methods in the same order")
        if any(len(answer.views) != len(report.pictures) for answer in asked.answers):
            raise InputsError(f"every answer needs one view for each of the {len(report.pictures)} pictures")
    figures = [_figures(report, q) for q in range(len(report.asked))]
    drawings = [f["drawing"] for group in figures for f in group]
    names = dict.fromkeys(name for drawing in drawings for name in drawing.scores)
    many = len(methods) > MANY
    one_keep = len({answer.keep for answer in first if answer.label != answer.method}) < 2
    env = Environment(loader=PackageLoader("herovlm.viz"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    env.filters |= {"positions": units.positions, "seconds": units.seconds, "bytes": units.size, "share": units.share}
    return env.get_template("page.html.j2").render(
        report=report,
        cards=[_card(report, m) for m in range(len(methods))],
        figures=[f for group in figures for f in group],
        many=many,
        labels=[answer.method for answer in first] if many and one_keep else methods,  # the keep is told once
        judged=any(answer.right is not None for asked in report.asked for answer in asked.answers),
        wide=any(d.local and d.local.width > 1.9 * d.local.height for d in drawings),
        order={name: i for i, name in enumerate(names)},
        ramp=", ".join(f"rgb{colour}" for colour in marks.RAMP),
        photos=[marks.photo(picture) for _, picture in report.pictures],
    )


def write(report: Report, path: str | Path) -> Path:
    """Write the page of a report to `path`, whole or not at all, and return the path.

    Raises:
        OSError: the file cannot be written.
    """
    path, text = Path(path), render(report)
    part = path.with_name(f".herovlm-{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _figures(report: Report, q: int) -> list[dict[str, Any]]:
    """Every (method, picture) of question `q`."""
    return [
        {
            "question": q,
            "method": m,
            "photo": p,
            "name": name,
            "answer": answer,
            "drawing": figure(picture.size, *_view(answer, p), report.fit),
        }
        for m, answer in enumerate(report.asked[q].answers)
        for p, (name, picture) in enumerate(report.pictures)
    ]


def _view(answer: Answer, p: int) -> tuple[Seen, Kept]:
    """What picture `p` shows; how many layers of the LLM read a patch is one more score."""
    seen, kept = answer.views[p]
    if not answer.inside:
        return seen, kept
    return seen, replace(kept, why={**kept.why, "layers": layers_read(seen, kept, answer.inside[p])})


def _card(report: Report, m: int) -> dict[str, Any]:
    """Sum up method `m` over all questions, beside the first method."""
    answers, first = ([asked.answers[i] for asked in report.asked] for i in (m, 0))
    judged = [answer.right for answer in answers if answer.right is not None]
    prefill = _middle(answers, "prefill")
    return {
        "label": answers[0].label,
        "positions": round(_middle(answers, "positions")),
        "of": round(_middle(answers, "of")),
        "layers": answers[0].layers,
        "prefill": prefill,
        "cache": round(_middle(answers, "cache")),
        "faster": _middle(first, "prefill") / prefill if m and prefill else None,
        "smaller": _middle(first, "cache") / max(1.0, _middle(answers, "cache")) if m else None,
        "first": first[0].label,
        "right": sum(judged) if judged else None,
        "judged": len(judged),
        "text": answers[0].text,
    }


def _middle(answers: list[Answer], name: str) -> float:
    return float(median(getattr(answer, name) for answer in answers))
