"""What is asked: a task is a versioned YAML file; a JSONL file of pictures and questions makes one too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from herovlm import registry
from herovlm.errors import UsageError, is_text, shortened
from herovlm.eval import metrics

BUNDLED = Path(__file__).parent / "tasks"
SLOT = "{question}"
LONGEST, DEEPEST = 100_000, 10  # letters, and mappings within mappings, of a task file


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
        for name, value in ((f.name, getattr(self, f.name)) for f in fields(self) if f.name != "splits"):
            kind = int if name in ("version", "max_new_tokens") else str
            if not isinstance(value, kind) or isinstance(value, bool):
                told = "a whole number" if kind is int else "text"
                raise UsageError(f"{name} must be {told}, not {shortened(value)}")
            if isinstance(value, str) and not is_text(value):
                raise UsageError(f"{name} holds half of a sign, which no file can be written with: {value!a:.80}")
        metrics.find(self.metric)
        if SLOT not in self.prompt:
            raise UsageError(f"prompt {self.prompt!r} has no place for the question; write {SLOT} where it goes")
        if self.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens={self.max_new_tokens} leaves no room for an answer; give at least 1")
        if not isinstance(self.splits, Mapping) or not self.splits:
            raise UsageError("splits must map a name to a JSONL file, such as 'test: questions.jsonl'")
        for name, where in self.splits.items():
            if not isinstance(name, str) or not isinstance(where, str) or not is_text(name + where):
                raise UsageError(
                    f"splits must map names to JSONL files, and maps {shortened(name)} to {shortened(where)}"
                )

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
    try:
        path = Path(told).expanduser()
        path = _only(path) if path.is_dir() and told.strip() else path
        there = bool(told.strip()) and path.is_file()
    except (OSError, RuntimeError):  # too long for a name; a home that nobody has
        there = False
    if not there:
        raise UsageError(
            f"there is no task {shortened(told)}{registry.did_you_mean(told, bundled())}; or give the path of a task "
            "(.yaml), of a .jsonl file of pictures and questions, or of a folder with one in it"
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
        text = path.read_text("utf-8-sig")
        _refuse_traps(text)
        given = yaml.safe_load(text)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except OSError:
        raise
    except Exception as error:  # values that are none of their kind: the parser raises nearly anything
        raise UsageError(f"{path} is not a YAML file: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(given, dict):
        raise UsageError(f"{path} is not a task: a YAML mapping with {', '.join(f.name for f in fields(Task))}")
    known = [field.name for field in fields(Task)]
    for key in given:
        if key not in known:
            raise UsageError(
                f"{path} has the unknown key {shortened(key)}{registry.did_you_mean(shortened(key), known)}"
            )
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
    return {
        name: str(home / where) if isinstance(where, str) and not where.startswith("herovlm.") else where
        for name, where in splits.items()
    }


def _refuse_traps(text: str) -> None:
    """Refuse what makes a small file endless before anything is built of it.

    Raises:
        UsageError: aliases, deep nesting, or far more text than a task has.
    """
    if len(text) > LONGEST:
        raise UsageError(f"{len(text):,} letters are too many for a task; questions go into a JSONL file of their own")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise UsageError(f"a task has no aliases (*{event.anchor}); write the value out where it is used")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise UsageError("values within values within values; a task is a flat mapping")


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
