"""What Chain-of-Spot is taught from: pictures seen once, boxes to write, and crops to answer from.

Half of the scenes are drawn twice as large as the model reads: their labels are legible in a crop and nowhere else.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
TOKENS = (32, 48, 64, 96)  # kept of a picture
CROP = (0.2, 0.3, 0.5)  # share kept of a crop
ITEMS = 4  # questions about an item, with a box
GREY = (127, 127, 127)


@dataclass
class Spot:
    """A picture as the LLM reads it, with questions, boxes and one crop."""

    picture: Tensor  # (positions, D) bfloat16
    boxes: list[tuple[str, str]]  # question, the text of its box
    crop: Tensor  # (positions, D) bfloat16, for the first question
    answer: str  # to the first question


def scene_of(seed: int, large: bool) -> scenes.Scene:
    """Draw a scene as the model knows it, or twice as large."""
    return scenes.make(seed, size=LARGE[seed % 3], most=16) if large else scenes.make(seed)


def box_of(item: scenes.Item, size: tuple[int, int]) -> region.Box:
    """Say where to look for an item, as shares of the picture's square, rounded to three places as the authors do."""
    square = scenes.around(item, size)
    shares = (square[0] / size[0], square[1] / size[1], square[2] / size[0], square[3] / size[1])
    left, top, right, bottom = (round(end, 3) for end in crops.within(size, shares))
    return left, top, right, bottom


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
    kept = Request.of("hero(alpha=1)", tokens=rng.choice(TOKENS))
    cut = Request.of("hero(alpha=1)", keep=rng.choice(CROP))
    seen, shown = (features(model, processor, image, how) for image, how in ((scene.image, kept), (crop, cut)))
    return Spot(seen, [(text, region.text(told)) for text, told, _ in boxes], shown, answer)


@torch.no_grad()
def features(model: Any, processor: Any, image: Any, request: Request) -> Tensor:
    """What the LLM reads of a picture, (positions, D)."""
    given = processor.image_processor(images=[image], return_tensors="pt")
    (layout,) = registry.family(model).layouts(model, given)
    ids, mask = turns.padded(model, [[model.config.image_token_id] * layout.positions])
    short = see(model, {"input_ids": ids, "attention_mask": mask, **given}, request).drop(request)
    return short["mm_encoder_outputs"]["image"].pooler_output[0].to(torch.bfloat16)


def shelf(model: Any, processor: Any, count: int, folder: Path) -> list[Spot]:
    """Look at `count` scenes, in parts of 50 that are kept on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Spot] = []
    for start in range(0, count, 50):
        file = folder / f"{start}.pt"
        if not file.exists():
            part = [spot(model, processor, FIRST + start + i) for i in range(50)]
            torch.save([vars(one) for one in part], file.with_suffix(".new"))
            file.with_suffix(".new").rename(file)
            print(f"looked at {start + 50} of {count} scenes", flush=True)
        found += [Spot(**one) for one in torch.load(file, weights_only=True)]
    return found


def batches(spots: list[Spot], size: int, start: int) -> Iterator[tuple[bool, list[Spot], random.Random]]:
    """Endless batches from a step on; every sixth is about answers."""
    step = start
    while True:
        rng = random.Random(step)
        yield step % 6 == 5, rng.sample(spots, size), rng
        step += 1
