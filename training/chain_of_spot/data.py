"""What Chain-of-Spot is taught from: pictures seen once, boxes to write, and crops to answer from.

Half of the scenes are drawn twice as large as the model reads: their labels are legible in a crop and nowhere else.
First turns read the whole picture, for places are read off position ids, which dropping closes up.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from herovlm import registry
from herovlm.demo import scenes
from herovlm.ops import region
from herovlm.request import Request
from herovlm.strategies import crops, turns
from herovlm.view import see

FIRST = scenes.SPLITS["train"].start + 900_000  # nobody else has these scenes
LARGE = ((768, 768), (768, 576), (576, 768))  # width, height; the processor halves them
TOKENS = (16, 24, 48, 96)  # kept of a picture in the second turn
CROP = (0.2, 0.3, 0.5)  # share kept of a crop
ITEMS = 12  # questions about an item, with a box
PART = 50  # scenes in a file
Kind = Literal["places", "boxes", "answers"]
CYCLE: tuple[Kind, ...] = (*("boxes", "places") * 5, "boxes", "answers")  # what steps are about, in turn
GREY = (127, 127, 127)


@dataclass
class Spot:
    """A picture as the LLM reads it, with questions, boxes and one crop."""

    picture: Tensor  # (positions, D) bfloat16, all of it
    kept: Tensor  # (positions, D) bfloat16, what HERO keeps of it
    boxes: list[tuple[str, str]]  # question, the text of its box
    places: list[tuple[str, str]]  # question where a thing is, and its answer, as in the model's own training
    crop: Tensor  # (positions, D) bfloat16, for the first question
    answer: str  # to the first question


def scene_of(seed: int, large: bool) -> scenes.Scene:
    """Draw a scene as the model knows it, or twice as large."""
    return scenes.make(seed, size=LARGE[seed % 3], most=16) if large else scenes.make(seed)


def box_of(item: scenes.Item, size: tuple[int, int]) -> region.Box:
    """Say where to look for an item, as shares of the picture's square, rounded to three places as the authors do.

    The square of one tile around it, on the raster of two patches as the model reads the picture.
    """
    raster = scenes.CELL * (2 if size in LARGE else 1)
    left, top, right, bottom = scenes.around(item, size)
    across, down = left % raster, top % raster
    shares = ((left - across) / size[0], (top - down) / size[1], (right - across) / size[0], (bottom - down) / size[1])
    left_, top_, right_, bottom_ = (round(end, 3) for end in crops.within(size, shares))
    return left_, top_, right_, bottom_


def places_of(scene: scenes.Scene) -> list[tuple[str, str]]:
    """Ask where each thing is that there is one of: column and row of the middle of its shape, in eighths."""
    names, found = [item.name for item in scene.items], []
    for item in (item for item in scene.items if names.count(item.name) == 1):
        (left, top, right, bottom), (width, height) = item.icon_box, scene.image.size
        column, row = int((left + right) / 2 * 8 / width), int((top + bottom) / 2 * 8 / height)
        found.append((f"Where is the {item.name}?", f"{column}{row}"))
    return found


def spot(model: Any, processor: Any, seed: int) -> Spot:
    """Look at a scene and at the crop for one of its questions."""
    rng = random.Random(seed)
    scene = scene_of(seed, large=seed % 2 == 1)
    asked = scenes.ask(rng, scene.kind, scene.items, (scene.image.width / 2, scene.image.height / 2), fine=ITEMS)
    named = {item.name: item for item in scene.items}
    boxes = []
    for question in asked:
        found = [item for name, item in named.items() if f"the {name}" in question.text]
        box = box_of(found[0], scene.image.size) if found else region.WHOLE
        boxes.append((question.text, box, question.answer))
    _, box, answer = boxes[0]
    crop = crops.cut(scene.image, box, GREY)
    whole, kept = Request.of("full", keep=1.0), Request.of("hero(alpha=1)", tokens=rng.choice(TOKENS))
    cut = Request.of("hero(alpha=1)", keep=rng.choice(CROP))
    seen, left = features(model, processor, scene.image, whole, kept)
    (shown,) = features(model, processor, crop, cut)
    told = [(text, region.text(box)) for text, box, _ in boxes]
    return Spot(seen, left, told, places_of(scene), shown, answer)


@torch.no_grad()
def features(model: Any, processor: Any, image: Any, *requests: Request) -> list[Tensor]:
    """What the LLM reads of a picture by each request, (positions, D)."""
    given = processor.image_processor(images=[image], return_tensors="pt")
    (layout,) = registry.family(model).layouts(model, given)
    ids, mask = turns.padded(model, [[model.config.image_token_id] * layout.positions])
    view = see(model, {"input_ids": ids, "attention_mask": mask, **given}, *requests)
    return [view.choose(request).features()[0].to(torch.bfloat16) for request in requests]


def shelf(model: Any, processor: Any, number: int, folder: Path) -> list[Spot]:
    """Look at `number` scenes, in parts that are kept on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Spot] = []
    for start in range(0, number, PART):
        file = folder / f"{start}.pt"
        if not file.exists():
            part = [spot(model, processor, FIRST + start + i) for i in range(min(PART, number - start))]
            torch.save([vars(one) for one in part], file.with_suffix(".new"))
            file.with_suffix(".new").rename(file)
            print(f"looked at {start + len(part)} of {number} scenes", flush=True)
        found += [Spot(**one) for one in torch.load(file, weights_only=True)]
    return found


def batches(spots: list[Spot], size: int, start: int) -> Iterator[tuple[Kind, list[Spot], random.Random]]:
    """Endless batches from a step on: a third of the pictures as drawn, in front, and the others twice as large."""
    for step in count(start):
        rng = random.Random(step)
        drawn, large = rng.sample(spots[0::2], size // 3), rng.sample(spots[1::2], size - size // 3)
        yield CYCLE[step % len(CYCLE)], drawn + large, rng
