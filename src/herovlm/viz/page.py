"""One self-contained HTML page: pictures with what was kept of them, and what the model answered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from herovlm.errors import InputsError
from herovlm.types import Kept, Seen
from herovlm.viz import fragment, times, units
from herovlm.viz.figure import figure
from herovlm.viz.fragment import Plate
from herovlm.viz.inside import layers_read
from herovlm.viz.records import Answer, Report

COSTS = {times.FIRST: "first_token", times.WHOLE: "seconds", "KV cache": "cache"}  # name -> field of an answer


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
    many = len(methods) > fragment.MANY
    one_keep = len({answer.keep for answer in first if answer.label != answer.method}) < 2
    labels = [answer.method for answer in first] if many and one_keep else methods  # the keep is told once
    plates = [plate for q in range(len(report.asked)) for plate in _plates(report, q, labels)]
    return (
        fragment.environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            cards=[_card(report, m) for m in range(len(methods))],
            fragment=fragment.render(
                plates, report.pictures, [(asked.question, asked.truth) for asked in report.asked]
            ),
            many=many,
            labels=labels,
            judged=any(answer.right is not None for asked in report.asked for answer in asked.answers),
            layered=any(answer.inside for answer in first),
            meaning=times.MEANING,
            measured=times.measured([answer for asked in report.asked for answer in asked.answers]),
        )
    )


def write(report: Report, path: str | Path) -> Path:
    """Write the page of a report to `path`, whole or not at all, and return the path.

    Raises:
        OSError: the file cannot be written.
    """
    return put(Path(path), render(report).encode())


def put(path: Path, data: bytes) -> Path:
    """Write a file whole or not at all, and return its path.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".herovlm-{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:  # of the file that was asked for, not of the one beside it
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):  # where nothing can be written, nothing can be deleted either
            part.unlink(missing_ok=True)
    return path


def _plates(report: Report, q: int, labels: Sequence[str]) -> list[Plate]:
    """Every (method, picture) of question `q`."""
    return [
        Plate(
            figure(picture.size, *_view(answer, p), report.fit),
            photo=p,
            label=labels[m],
            method=answer.method,
            keep=None if answer.label == answer.method else str(answer.keep),
            question=q,
            text=answer.text,
            right=answer.right,
            positions=units.positions(answer.positions, answer.layers) if answer.layers else "",
            anchor=f"m{m}" if q == p == 0 else "",
        )
        for m, answer in enumerate(report.asked[q].answers)
        for p, (_, picture) in enumerate(report.pictures)
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
    return {
        "label": answers[0].label,
        "positions": round(times.middle(answers, "positions")),
        "of": round(times.middle(answers, "of")),
        "layers": answers[0].layers,
        "costs": [_cost(name, what, answers, first if m else ()) for name, what in COSTS.items()],
        "first": first[0].label,
        "right": sum(judged) if judged else None,
        "judged": len(judged),
        "text": answers[0].text,
    }


def _cost(name: str, what: str, answers: Sequence[Answer], first: Sequence[Answer]) -> tuple[str, str, str]:
    """Name, value, and how that is beside the first method; nothing where it is the first."""
    value, words = times.middle(answers, what), ("smaller", "larger") if what == "cache" else ("faster", "slower")
    shown = units.size(round(value)) if what == "cache" else units.seconds(value)
    return name, shown, times.beside(times.middle(first, what), value, *words)[1] if first else ""
