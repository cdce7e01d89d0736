"""Pictures and what was kept of them as a piece of HTML for any page: styles of its own, no script, no network.

Switches are radio buttons, and style sheets do what they say: arrow keys move between views, methods and keeps.  In
print, and in browsers too old for it, everything is there one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

from jinja2 import Environment
from PIL import Image

from herovlm import templates
from herovlm.viz import marks, units
from herovlm.viz.figure import KEPT, PICTURE, Figure, Panel

MANY = 4  # methods: more of them are drawn small
ALL = "all"


@dataclass(frozen=True)
class Plate:
    """One picture as one method left it, and what is said about it."""

    figure: Figure
    photo: int  # which of the pictures
    label: str
    method: str
    keep: str | None = None  # None: whatever is kept, it looks like this (the full model)
    question: int = 0
    text: str | None = None  # the answer
    right: bool | None = None
    positions: str = ""  # how they fall inside the LLM
    anchor: str = ""  # what a link of the page leads to


@dataclass(frozen=True)
class Switch:
    """A choice: its options by what the parts of a page are marked with; the first is chosen."""

    name: str
    legend: str
    options: dict[str, str]


def render(
    plates: Sequence[Plate],
    pictures: Sequence[tuple[str, Image.Image]],
    questions: Sequence[tuple[str, str | None]] = (),
) -> str:
    """Draw plates, with a switch for whatever there is more than one of.

    Args:
        plates: question by question, in the order of the page.
        pictures: name and picture; each is stored once.
        questions: question, and its true answer where that is known.
    """
    photos = [marks.photo(picture) for _, picture in pictures]
    views = [KEPT, PICTURE, *dict.fromkeys(name for plate in plates for name in plate.figure.scores)]
    methods = list(dict.fromkeys(plate.method for plate in plates))
    keeps = list(dict.fromkeys(plate.keep for plate in plates if plate.keep is not None))
    uid = sha256("".join([*photos, *(p.label + p.figure.says(KEPT, "") for p in plates)]).encode()).hexdigest()[:8]
    template = environment().get_template("fragment.html.j2")
    return template.render(
        plates=plates,
        pictures=pictures,
        photos=photos,
        questions=questions or [("", None)],
        views=views,
        index={"method": _index(methods), "keep": _index(keeps), "view": _index(views)},
        switches=_switches(questions, views, methods, keeps, [name for name, _ in pictures]),
        many=len({plate.label for plate in plates}) > MANY,
        wide=any(p.figure.local and p.figure.local.width > 1.9 * p.figure.local.height for p in plates),
        uid=f"h{uid}",
    )


@cache
def environment() -> Environment:
    """Return the templates of this package, with its filters."""
    env = templates.environment("viz")
    env.filters |= {"positions": units.positions, "seconds": units.seconds, "bytes": units.size, "share": units.share}
    env.filters |= {
        "outline": marks.outline,
        "cells": marks.cells,
        "veil": marks.veil,
        "heat": marks.heat,
        "room": _room,
    }
    env.globals |= {"ramp": ", ".join(f"rgb{colour}" for colour in marks.RAMP), "KEPT": KEPT, "PICTURE": PICTURE}
    return env


def _room(panel: Panel, figure: Figure, most: float) -> str:
    """Make a patch as large in the thumbnail as on the canvas, and no canvas higher than `most`."""
    return f"width: {most * (panel.width + 0.9 * bool(panel.newlines)) / figure.panels[0].height:.2f}rem"


def _switches(
    questions: Sequence[Any], views: Sequence[str], methods: Sequence[str], keeps: Sequence[str], names: Sequence[str]
) -> list[Switch]:
    """Make a switch for whatever has a choice; all methods, keeps and pictures are there at first."""
    everything = {
        "question": ("Question", _options([question for question, _ in questions])),
        "view": ("Show", _options(views)),
        "method": ("Method", {ALL: ALL} | _options(methods)),
        "keep": ("Keep", {ALL: ALL} | _options(keeps)),
        "picture": ("Picture", {ALL: ALL} | _options(names)),
    }
    return [
        Switch(name, legend, options)
        for name, (legend, options) in everything.items()
        if len(options) - (ALL in options) > 1
    ]


def _options(names: Sequence[str]) -> dict[str, str]:
    return {str(i): name for i, name in enumerate(names)}


def _index(names: Sequence[str]) -> dict[str | None, str]:
    return {None: ALL} | {name: str(i) for i, name in enumerate(names)}
