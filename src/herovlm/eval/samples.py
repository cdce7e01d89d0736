"""Pictures with their questions, picture by picture: one look of the vision tower serves all questions about it."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from herovlm.errors import UsageError, is_text, shortened
from herovlm.eval import metrics
from herovlm.eval.task import Task

if TYPE_CHECKING:
    from PIL import Image

SCENES = "herovlm.demo.scenes:"


@dataclass(frozen=True)
class Sample:
    """A question and its right answers."""

    name: str  # unique in its split
    question: str
    answers: tuple[str, ...]
    kind: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture and all that is asked about it; read when its turn comes."""

    name: str
    read: Callable[[], tuple[Image.Image, tuple[Sample, ...]]]
    path: Path | None = None  # of its file, if it comes from one

    def digest(self) -> str | None:
        """Return a digest of its file; None where it has none."""
        return None if self.path is None else _digest(self.path)


@dataclass(frozen=True)
class Asked:
    """One split of a task, and what of it is asked."""

    task: Task
    split: str
    pictures: tuple[Picture, ...]
    data: str  # a digest of what the questions were read from; pictures are not in it


def asked(task: Task, split: str | None = None, *, limit: int | None = None, seed: int | None = None) -> Asked:
    """Read the questions of a split.

    Args:
        task: what is asked.
        split: its name; None is the task's first.
        limit: only so many pictures, with all their questions.
        seed: of the order of the pictures, from which `limit` takes the first; None leaves them as they stand.

    Raises:
        UsageError: there is no such split, or its file is broken; names the line.
    """
    split, where = task.where(split)
    if where.startswith(SCENES):
        data, pictures = where, _scenes(where.removeprefix(SCENES))
    else:
        pictures = _local(Path(where), metrics.find(task.metric))
        data = _digest(Path(where))
    if seed is not None:
        random.Random(seed).shuffle(pictures)
    return Asked(task, split, tuple(pictures[:limit]), data)


def _scenes(split: str) -> list[Picture]:
    from herovlm.demo import scenes

    if split not in scenes.SPLITS:
        raise UsageError(f"{SCENES}{split} does not exist; there are {', '.join(scenes.SPLITS)}")
    return [Picture(str(seed), partial(_scene, seed)) for seed in scenes.SPLITS[split]]


def _scene(seed: int) -> tuple[Image.Image, tuple[Sample, ...]]:
    from herovlm.demo import scenes

    scene = scenes.make(seed)
    asked = enumerate(scene.questions)
    return scene.image, tuple(Sample(f"{seed}-{n}", q.text, (q.answer,), q.kind) for n, q in asked)


def _local(path: Path, metric: metrics.Metric) -> list[Picture]:
    """Read a JSONL file, one question a line: image, question, answers or answer, and if you like kind and id."""
    if not _is_file(path):  # a device or a pipe may have no end
        raise UsageError(f"{path} cannot be read (no file); check the path")
    try:
        lines = path.read_text("utf-8-sig").split("\n")  # not at other signs that only look like the end of a line
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text; give a JSONL file, one question a line") from None
    found: dict[str, list[Sample]] = {}
    names: set[str] = set()
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                image, sample = _read(line, number, path.parent, metric)
                if sample.name in names:
                    raise UsageError(f"the id {sample.name!r} is there twice; ids must differ")
            except UsageError as error:
                raise UsageError(f"{path}, line {number}: {error}") from None
            names.add(sample.name)
            found.setdefault(image, []).append(sample)
    if not found:
        raise UsageError(f'{path} holds no questions; one a line: {{"image": "a.png", "question": "?", "answer": "!"}}')
    files = {image: path.parent / image for image in found}
    return [Picture(image, partial(_open, files[image], tuple(of)), files[image]) for image, of in found.items()]


def _open(path: Path, samples: tuple[Sample, ...]) -> tuple[Image.Image, tuple[Sample, ...]]:
    from herovlm.pictures import open_picture

    return open_picture(path), samples


def _read(line: str, number: int, home: Path, metric: metrics.Metric) -> tuple[str, Sample]:
    """Read one question, with the path of its picture as written."""
    try:
        given = json.loads(line)
    except ValueError as error:
        raise UsageError(f"not JSON ({error})") from None
    except RecursionError:
        raise UsageError("values within values within values; a question is a flat object") from None
    if not isinstance(given, dict):
        raise UsageError('not an object; write {"image": ..., "question": ..., "answer": ...}')
    for key in ("image", "question"):
        if not isinstance(given.get(key), str) or not given[key].strip():
            raise UsageError(f"{key!r} is missing, empty or no text")
    if not all(map(is_text, _texts(given))):
        raise UsageError("half of a sign (a lone surrogate) in a text, which no file can be written with")
    if not _is_file(home / given["image"]):
        raise UsageError(f"there is no picture {home / given['image']} (paths are relative to the JSONL file)")
    answers = _answers(given)
    if metric.only and not {one.casefold() for one in answers} <= set(metric.only):
        raise UsageError(f"{metric.name} knows the answers {' and '.join(metric.only)}, not {answers[0]!r}")
    kind = given.get("kind", "")
    for key, value in (("kind", kind), ("id", given.get("id", number))):
        if not isinstance(value, str | int | float):
            raise UsageError(f"{key!r} must be a text or a number, not {shortened(value)}")
    return given["image"], Sample(str(given.get("id", number)), given["question"].strip(), answers, str(kind))


def _answers(given: dict[str, Any]) -> tuple[str, ...]:
    """Read the right answers: texts or numbers."""
    if ("answers" in given) == ("answer" in given):
        raise UsageError("give 'answer' (one) or 'answers' (a list)")
    answers = given["answers"] if "answers" in given else [given["answer"]]
    good = isinstance(answers, list) and answers
    if not good or any(isinstance(one, bool) or not isinstance(one, str | int | float) for one in answers):
        raise UsageError("answers must be texts or numbers, at least one")
    if any(isinstance(one, float) and not math.isfinite(one) for one in answers):
        raise UsageError("answers must be numbers that are some: NaN and Infinity are none")
    return tuple(str(one) for one in answers)


def _texts(given: dict[str, Any]) -> Iterator[str]:
    """All texts of a question."""
    for value in given.values():
        yield from (one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False


def _digest(path: Path) -> str:
    """Return a name of a file by its content; that it cannot be read shows when it is read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def part_of(pictures: Sequence[Picture], part: int, parts: int) -> Sequence[Picture]:
    """Take the share of one of several processes."""
    return pictures[part::parts]
