"""Training pictures as the demo model sees them: features, what methods keep for each question, and where answers are.

The tower and the methods are frozen, so each picture is looked at once and kept in a file: `python -m
training.age_vlm.data --out runs/age_vlm`, 100 pictures a file, resumable.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from herovlm import demo
from herovlm.demo import scenes
from herovlm.eval.plan import config
from herovlm.prompt.template import prompt
from herovlm.types import Seen
from herovlm.view import see
from training.demo import data, llm, words

FIRST = scenes.SPLITS["train"].start + 900_000  # pictures that no stage of the demo model has seen
METHODS = ("hero", "hero_plus")
KEEP = 0.1
SHARD = 100  # pictures a file


def questions_of(scene: scenes.Scene) -> list[scenes.Question]:
    """About a dozen different questions: of six fine ones, and two of each other kind."""
    middle = (scene.image.width / 2, scene.image.height / 2)
    rng = random.Random(scene.seed)
    drawn = [one for _ in range(2) for one in scenes.ask(rng, scene.kind, scene.items, middle, fine=3)]
    return list({one.text: one for one in drawn}.values())


def asked(question: scenes.Question, items: tuple[scenes.Item, ...]) -> list[int]:
    """Numbers of the items that a question is about, by name or by number; none where none is there."""
    if question.kind == "reverse":
        return [number for number, item in enumerate(items) if item.text in question.text]
    return [number for number, item in enumerate(items) if f" {item.name}" in question.text.replace("crosses", "cross")]


def places_of_items(scene: scenes.Scene, side: int = data.SIDE) -> Tensor:
    """Which item stands in each patch, (T, N) int64, -1 for none: shape and label, in the thumbnail the shape alone."""
    width, height = scene.image.size
    rows, columns = -(-height // data.TILE), -(-width // data.TILE)
    top, left = (rows * data.TILE - height) // 2, (columns * data.TILE - width) // 2
    found = torch.full((1 + rows * columns, side**2), -1)
    for number, item in enumerate(scene.items):
        small = [v * data.TILE / (width, height)[i % 2] for i, v in enumerate(item.icon_box)]
        for patch in data.covered((small[0], small[1], small[2], small[3]), 0.4):
            found[0, patch] = number
        x, y = item.cell[0] * scenes.CELL + left, item.cell[1] * scenes.CELL + top
        tile = 1 + (y // data.TILE) * columns + x // data.TILE
        across, down = left - x // data.TILE * data.TILE, top - y // data.TILE * data.TILE
        for box in (item.icon_box, item.label_box):
            moved = (box[0] + across, box[1] + down, box[2] + across, box[3] + down)
            for patch in data.covered(moved, 0.4):
                found[tile, patch] = number
    return found


def sequence(seen: Seen, mask: Tensor, newlines: Tensor) -> Tensor:
    """What the language model reads of an image, in order: flat patches, and -1 - r for the newline of row r."""
    return seen.grid.order[seen.grid.on_slots(mask, newlines)]


@torch.no_grad()
def record(model: Any, processor: Any, seed: int) -> dict[str, Any]:
    """Look at one picture and choose for each of its questions by each method."""
    scene = scenes.make(seed)
    questions = questions_of(scene)
    branches = [llm.branch(processor.tokenizer, one) for one in questions]
    inputs = processor(images=scene.image, text=prompt(processor, questions[0].text), return_tensors="pt")
    requests = [config(f"{method}@{KEEP}").request for method in METHODS]
    view = see(model, inputs, *requests)
    ids = inputs["input_ids"][0]
    head = ids[: int((ids == words.IMAGE).nonzero().max()) + 1]  # up to the picture's last position
    rows = [torch.cat([head, torch.tensor(one.ids[: one.start])]) for one in branches]
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], True)
    every = view.under(nn.utils.rnn.pad_sequence(rows, True, words.PAD), mask, [0] * len(rows))
    kept: list[list[Tensor]] = [[] for _ in questions]
    for request in requests:
        choice = every.choose(replace(request, question=tuple(one.text for one in questions)))
        for own, seen, found in zip(choice.kept, choice.seen, kept, strict=True):
            found.append(sequence(seen, own.mask, own.newlines).to(torch.int16))
    return {
        "seed": seed,
        "features": seen.features.bfloat16(),  # (T, N, D)
        "newline": seen.newline.bfloat16(),
        "valid": seen.valid,
        "tiles": seen.grid.tiles,
        "items": places_of_items(scene).to(torch.int8),
        "kept": kept,  # a question, then a method
        "ids": [one.ids for one in branches],
        "start": [one.start for one in branches],
        "kind": [one.kind for one in branches],
        "asked": [asked(one, scene.items) for one in questions],
    }


def make(out: Path, pictures: int) -> None:
    """Write all files that are not there yet."""
    model, processor = demo.load()
    out.mkdir(parents=True, exist_ok=True)
    for shard in range(-(-pictures // SHARD)):
        file, began = out / f"{shard:03}.pt", time.time()
        if file.exists():
            continue
        first = FIRST + shard * SHARD
        torch.save([record(model, processor, seed) for seed in range(first, first + SHARD)], out / "new.pt")
        (out / "new.pt").rename(file)
        print(f"{file} {time.time() - began:.0f} s", flush=True)


def load(folder: Path) -> Iterator[dict[str, Any]]:
    """Read all pictures that were written."""
    for file in sorted(folder.glob("[0-9]*.pt")):
        yield from torch.load(file, weights_only=False)


def main() -> None:
    """Look at the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/age_vlm"))
    parser.add_argument("--pictures", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    make(args.out / "seen", args.pictures)


if __name__ == "__main__":
    main()
