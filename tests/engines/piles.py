"""A pile of boards on disk, with a manifest, for the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path

from herovlm.demo import scenes


def pile(folder: Path, boards: int = 3, questions: int = 2) -> Path:
    """Draw boards and ask some questions about each; returns the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for seed in range(boards):
        board = scenes.make(seed)
        board.image.save(folder / f"{seed}.png")
        lines += [
            {"id": f"{seed}-{n}", "image": f"{seed}.png", "question": one.text}
            for n, one in enumerate(board.questions[:questions])
        ]
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return manifest
