"""Small tasks on the disk, and a short run of the demo model that can be ended from outside: `boards.py FOLDER`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from herovlm import demo
from herovlm.demo import scenes
from herovlm.eval import plan, samples, task
from herovlm.eval.run import Run


def local(folder: Path, count: int = 2, **more: Any) -> Path:
    """Boards as picture files, with their questions in a JSONL file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for scene in map(scenes.make, range(count)):
        scene.image.save(folder / f"{scene.seed}.png")
        for question in scene.questions:
            line = {"image": f"{scene.seed}.png", "question": question.text, "answer": question.answer, **more}
            lines.append({**line, "kind": question.kind})
    return written(folder / "boards.jsonl", lines)


def written(path: Path, lines: Sequence[Any]) -> Path:
    """A JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def run(keeps: Sequence[float] = (0.1,), methods: Sequence[str] = ("random",), limit: int = 4, **more: Any) -> Run:
    """A short run over the bundled boards."""
    asked = samples.asked(task.load("board"), limit=limit)
    configs = plan.configs(methods, keeps)
    return Run(tasks=[asked], configs=configs, models={"demo": demo.load}, limit=limit, threads=1, **more)


def go(folder: Path, step: Callable[[str], None] = lambda _: None, **what: Any) -> None:
    """Run it, and leave torch as it was."""
    threads = torch.get_num_threads()
    run(**what).go(folder, step=step)
    torch.set_num_threads(threads)


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    """A record without its times."""
    return {name: value for name, value in record.items() if name != "seconds"}


if __name__ == "__main__":
    go(Path(sys.argv[1]), step=lambda text: print(text, flush=True))
