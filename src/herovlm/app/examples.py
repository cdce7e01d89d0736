"""Pictures to begin with: scenes that the demo model was never trained on, with questions about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from herovlm.app.folder import EXAMPLES
from herovlm.demo import scenes

SEEDS = {"notice board": 43, "price list": 36, "town map": 33}


@dataclass(frozen=True)
class Example:
    """A picture in a file, and what can be asked about it."""

    name: str
    path: str
    questions: tuple[str, ...]


def draw(folder: Path) -> list[Example]:
    """Draw the examples into a folder of their own below `folder`, where they stay."""
    found, place = [], folder / EXAMPLES
    place.mkdir()
    for name, seed in SEEDS.items():
        scene = scenes.make(seed)
        path = place / f"{name}.png"
        scene.image.save(path)
        found.append(Example(name, str(path), tuple(question.text for question in scene.questions)))
    return found
