"""What is asked: a task is a versioned YAML file; a JSONL file of pictures and questions makes one too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from herovlm import registry
from herovlm.errors import UsageError
from herovlm.eval import metrics

BUNDLED = Path(__file__).parent / "tasks"
SLOT = "{question}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """Questions about pictures, and how answers are scored."""

    name: str
    version: int  # raised whenever anything changes that changes scores
    source: str  # where pictures and questions come from, in words
    metric: str  # a name of `metrics.METRICS`
    splits: Mapping[str, str]  # name -> JSONL file (relative to the YAML), or "herovlm.demo.scenes:NAME"; default first
    prompt: str = SLOT  # what the user says
    max_new_tokens: int = 16
    about: str = ""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: one of them is wrong.
        """
        for name, kind in (("name", str), ("version", int), ("source", str), ("prompt", str), ("max_new_tokens", int)):
            if not isinstance(getattr(self, name), kind):
                raise UsageError(f"{name} must be {kind.__name__}, not {getattr(self, name)!r}")
        metrics.find(self.metric)
        if SLOT not in self.prompt:
            raise UsageError(f"prompt {self.prompt!r} has no place for the question; write {SLOT} where it goes")
        if self.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens={self.max_new_tokens} leaves no room for an answer; give at least 1")
        if not isinstance(self.splits, Mapping) or not self.splits:
            raise UsageError("splits must map a name to a JSONL file, such as 'test: questions.jsonl'")

    def where(self, split: str | None) -> tuple[str, str]:
        """Give the name of a split and where it is; None is the first.

        Raises:
            UsageError: there is no such split.
        """
        name = next(iter(self.splits)) if split is None else split
        if name not in self.splits:
            raise UsageError(f"the task {self.name!r} has no split {name!r}{registry.did_you_mean(name, self.splits)}")
        return name, self.splits[name]


def bundled() -> list[str]:
    """Name the tasks that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.yaml"))


def load(told: str, metric: str | None = None) -> Task:
    """Find a task: a bundled one by name, a YAML file, a JSONL file, or a folder with one JSONL file in it.

    `metric` is for JSONL files and folders, which name none.

    Raises:
        UsageError: there is no such task, or it is broken; says what is wrong in which file.
    """
    if told in bundled():
        return read(BUNDLED / f"{told}.yaml")
    path = Path(told).expanduser()
    if path.is_dir():
        path = _only(path)
    if not path.is_file():
        raise UsageError(
            f"there is no task {told!r}{registry.did_you_mean(told, bundled())}; or give the path of a task (.yaml), "
            "of a .jsonl file of pictures and questions, or of a folder with one in it"
        )
    if path.suffix in (".yaml", ".yml"):
        return read(path)
    if path.suffix != ".jsonl":
        raise UsageError(f"{path} is neither .yaml (a task) nor .jsonl (pictures and questions)")
    if metric is None:
        raise UsageError(f"{path} does not say how answers are scored; add --metric {'|'.join(metrics.METRICS)}")
    return Task(name=path.stem, version=1, source="local file", metric=metric, splits={"all": str(path)})


def read(path: Path) -> Task:
    """Read the YAML file of a task.

    Raises:
        UsageError: it is no YAML, or has unknown, missing or wrong values.
    """
    try:
        given = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a YAML file: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(given, dict):
        raise UsageError(f"{path} is not a task: a YAML mapping with {', '.join(f.name for f in fields(Task))}")
    known = [field.name for field in fields(Task)]
    for key in given:
        if key not in known:
            raise UsageError(f"{path} has the unknown key {key!r}{registry.did_you_mean(str(key), known)}")
    missing = [f.name for f in fields(Task) if f.default is MISSING and f.name not in given]
    if missing:
        raise UsageError(f"{path} lacks {', '.join(missing)}")
    try:
        return Task(**{**given, "splits": _resolved(given["splits"], path.parent)})
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _resolved(splits: Any, home: Path) -> Any:
    """Make the files of splits relative to the folder of their task."""
    if not isinstance(splits, dict):
        return splits
    return {str(n): str(w) if str(w).startswith("herovlm.") else str(home / str(w)) for n, w in splits.items()}


def _only(folder: Path) -> Path:
    """Return the one JSONL file of a folder.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = sorted(folder.glob("*.jsonl"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:5]) or "none"
        raise UsageError(f"the folder {folder} must hold one .jsonl file of pictures and questions; it holds {names}")
    return found[0]
