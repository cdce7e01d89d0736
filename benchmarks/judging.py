"""What the benchmarks of answers share: a reader that judges quickly, a run that goes on, and one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from herovlm.demo import load
from herovlm.eval.answer import Reader

Line = dict[str, Any]


def reader(small: bool = False) -> Reader:
    """The demo model with its language model in bfloat16, for speed; not a small run's: old processors lack it."""
    model, processor = load()
    if not small:
        model.model.language_model.bfloat16()
        model.lm_head.bfloat16()
    return Reader(model, processor, max_new_tokens=8)


def judged(file: Path, seeds: Sequence[int], name: str, judge: Callable[[int], Line]) -> list[Line]:
    """Judge the scenes that have no line in the file yet, a line each; return the lines of all of them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []
    done = {line["scene"] for line in lines}
    with file.open("a", encoding="utf-8") as out:
        for seed in track([s for s in seeds if s not in done], description=name, console=Console(stderr=True)):
            lines.append(judge(seed))
            out.write(json.dumps(lines[-1]) + "\n")
            out.flush()
    return [line for line in lines if line["scene"] in set(seeds)]


def hand_over(target: str, result: Mapping[str, Any]) -> None:
    """Write the result to a file, or to standard output where it is "-"."""
    text = json.dumps(result, indent=1) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        Path(target).write_text(text, "utf-8")
