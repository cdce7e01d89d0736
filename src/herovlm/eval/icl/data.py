"""Persons in pictures with their labels: a pool of examples and those who are asked about.

A folder holds `pool` and `test`, each a .jsonl or a .csv file, and if you like `labels.txt`, one label a line:

    {"image": "a.jpg", "box": [12, 30, 180, 400], "labels": ["Peace", "Pleasure"], "rationale": "Calm face."}

    image,x0,y0,x1,y1,labels,rationale
    a.jpg,12,30,180,400,Peace; Pleasure,Calm face.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from herovlm import registry
from herovlm.errors import UsageError, is_text, reason, shortened

if TYPE_CHECKING:
    from PIL import Image

FIGURES = "figures"
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; ends of a slice
CORNERS = ("x0", "y0", "x1", "y1")
LABELS = {  # of the data sets of the paper
    "emotic": """Affection Anger Annoyance Anticipation Aversion Confidence Disapproval Disconnection Disquietment
        Doubt/Confusion Embarrassment Engagement Esteem Excitement Fatigue Fear Happiness Pain Peace Pleasure Sadness
        Sensitivity Suffering Surprise Sympathy Yearning""",
    "heco": "Surprise Excitement Happiness Peace Disgust Anger Fear Sadness",
}


@dataclass(frozen=True)
class Person:
    """A person in a picture; the picture is read when its turn comes."""

    name: str  # unique among those it stands with
    open: Callable[[], Image.Image]
    box: Box
    labels: tuple[str, ...]
    rationale: str = ""

    def look(self) -> Image.Image:
        """Open the picture, and check that the box lies in it.

        Raises:
            PictureError: the picture cannot be read.
            UsageError: nothing of the box is in the picture.
        """
        image = self.open()
        left, top, right, bottom = self.box
        if min(right, image.width) <= max(left, 0) or min(bottom, image.height) <= max(top, 0):
            raise UsageError(
                f"{self.name}: the box {list(self.box)} is not in the picture, which is {image.width} x "
                f"{image.height}; give left, top, right, bottom in pixels"
            )
        return image


@dataclass(frozen=True)
class People:
    """A set of persons: who can be shown, who is asked about, and what they may feel."""

    name: str
    labels: tuple[str, ...]
    pool: tuple[Person, ...]
    test: tuple[Person, ...]
    data: str  # a digest of what they were read from; pictures are not in it


def load(told: str, labels: str | None = None, limit: int | None = None, pool: int | None = None) -> People:
    """Find a set of persons: "figures", which is drawn, or a folder with `pool` and `test`.

    Args:
        told: "figures", or the path of the folder.
        labels: "emotic", "heco", or a file with one label a line; None takes `labels.txt` of the folder.
        limit: only so many who are asked about.
        pool: only so many who can be shown.

    Raises:
        UsageError: there is no such folder, or a line of it is broken; names the file and the line.
    """
    if told == FIGURES:
        if labels is not None:
            raise UsageError(f"--labels {labels} is for data of your own; {FIGURES!r} has labels")
        return _figures(limit, pool)
    home = Path(told).expanduser()
    if not told.strip() or not home.is_dir():
        raise UsageError(
            f"there is no folder {shortened(told)}; give {FIGURES!r}, which is drawn, or a folder with pool.jsonl, "
            "test.jsonl (or .csv both) and labels.txt"
        )
    known = _labels(home, labels)
    files = [_file(home, name) for name in ("pool", "test")]
    shown, test = (tuple(_people(path, known)) for path in files)
    both = {person.name for person in shown} & {person.name for person in test}
    if both:
        raise UsageError(
            f"{min(both)} is in {files[0].name} and in {files[1].name}: who is asked about would be shown with the "
            "answer; take that person out of one of them"
        )
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    return People(home.resolve().name, known, shown[:pool], test[:limit], digest)


def _figures(limit: int | None, most: int | None) -> People:
    from herovlm.demo import figures

    def drawn(seed: int) -> Person:
        made = figures.make(seed)  # again when it is looked at: a thousand pictures are half a gigabyte
        return Person(str(seed), lambda: figures.make(seed).image, made.box, (made.feeling,), made.rationale)

    pool, test = figures.SPLITS["pool"][:most], figures.SPLITS["held-out"][:limit]
    return People(FIGURES, figures.FEELINGS, tuple(map(drawn, pool)), tuple(map(drawn, test)), "herovlm.demo.figures")


def _labels(home: Path, told: str | None) -> tuple[str, ...]:
    """Read the labels there are."""
    if told is not None and told.casefold() in LABELS:
        return tuple(LABELS[told.casefold()].split())
    path = home / "labels.txt" if told is None else Path(told).expanduser()
    if not path.is_file():
        raise UsageError(
            f"there is no file {path}, which lists the labels, one a line; write it, or give --labels "
            f"{' or --labels '.join(LABELS)}"
        )
    found = tuple(dict.fromkeys(line.strip() for line in _text(path).splitlines() if line.strip()))
    if len(found) < 2:
        raise UsageError(f"{path} lists {len(found)} labels; give at least two, one a line")
    return found


def _file(home: Path, name: str) -> Path:
    found = [path for path in (home / f"{name}.jsonl", home / f"{name}.csv") if path.is_file()]
    if len(found) != 1:
        raise UsageError(
            f"the folder {home} must hold {name}.jsonl or {name}.csv, and holds {'both' if found else 'neither'}"
        )
    return found[0]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text; save it as UTF-8") from None


def _people(path: Path, known: Sequence[str]) -> Iterator[Person]:
    """Read the persons of a file."""
    names: set[str] = set()
    for number, given in _rows(path):
        try:
            person = _person(given, path.parent, known)
            if person.name in names:
                raise UsageError(f"{person.name} is there twice; give each person one line")
        except UsageError as error:
            raise UsageError(f"{path}, line {number}: {error}") from None
        names.add(person.name)
        yield person
    if not names:
        raise UsageError(f"{path} holds no persons; {HOW}")


HOW = 'write a line a person: {"image": "a.jpg", "box": [12, 30, 180, 400], "labels": ["Peace"]}'


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the lines of a JSONL or CSV file, each with its number."""
    if path.suffix == ".csv":
        reader = csv.DictReader(_text(path).splitlines(keepends=True))
        missing = {"image", *CORNERS, "labels"} - {*(reader.fieldnames or ())}
        if missing:
            raise UsageError(f"{path} lacks the columns {', '.join(sorted(missing))} in its first line")
        for row in reader:
            yield reader.line_num, {**row, "box": [row[corner] for corner in CORNERS]}
        return
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            try:
                given = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{path}, line {number}: not JSON ({reason(error)}); {HOW}") from None
            if not isinstance(given, dict):
                raise UsageError(f"{path}, line {number}: not an object; {HOW}")
            yield number, given


def _person(given: dict[str, Any], home: Path, known: Sequence[str]) -> Person:
    image, rationale = given.get("image"), given.get("rationale") or ""
    if not isinstance(image, str) or not image.strip() or not isinstance(rationale, str):
        raise UsageError("'image' is missing or no text, or 'rationale' is no text")
    if not is_text(image + rationale):
        raise UsageError("half of a sign (a lone surrogate) in a text, which no file can be written with")
    path = home / image
    try:
        there = path.is_file()
    except (OSError, ValueError):  # too long for a name, or no name at all
        there = False
    if not there:
        raise UsageError(f"there is no picture {path} (paths are relative to the file)")
    box = box_of(given.get("box"))
    labels = labels_of(given.get("labels"), known)
    return Person(f"{image} {list(box)}", partial(_open, path), box, labels, rationale)


def _open(path: Path) -> Image.Image:
    from herovlm.pictures import open_picture

    return open_picture(path)


def box_of(given: Any) -> Box:
    """Read a box, left, top, right and bottom; parts of a pixel are cut off, as the authors do.

    Raises:
        UsageError: it is no such box.
    """
    try:
        numbers = [float(one) for one in given]
        good = len(numbers) == 4 and all(map(math.isfinite, numbers)) and not isinstance(given, str)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise UsageError(f"the box {shortened(given)} is not four numbers: left, top, right, bottom in pixels")
    left, top, right, bottom = map(int, numbers)
    if right <= left or bottom <= top:
        raise UsageError(f"the box {shortened(given)} is empty: right must be more than left, bottom more than top")
    return left, top, right, bottom


def labels_of(given: Any, known: Sequence[str]) -> tuple[str, ...]:
    """Read labels: a list, the text of a Python list, or text with ";" between; case is nothing.

    Raises:
        UsageError: there is none, or one that is not known.
    """
    if isinstance(given, str) and given.strip().startswith("["):
        try:
            given = ast.literal_eval(given.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise UsageError(f"the labels {shortened(given)} are no list; write ['Peace', 'Esteem']") from None
    elif isinstance(given, str):
        given = [one for one in map(str.strip, given.split(";")) if one]
    if not isinstance(given, list | tuple) or not given or not all(isinstance(one, str) for one in given):
        raise UsageError(f"the labels {shortened(given)} are no list with at least one label")
    spelled = {one.casefold(): one for one in known}
    for one in given:
        if one.strip().casefold() not in spelled:
            raise UsageError(f"the label {shortened(one)} is not known{registry.did_you_mean(one, known)}")
    return tuple(dict.fromkeys(spelled[one.strip().casefold()] for one in given))
