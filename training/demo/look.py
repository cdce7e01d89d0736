"""What the trained tower looks at, without the LLM: `python -m training.demo.look --json FILE`.

On scenes of the development split: how much more than chance the CLS token of each block looks at shapes and at labels,
how often the most relevant tile is the one that the question is about, and how often a method keeps the label's patch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from herovlm import registry, see, spec
from herovlm.budget import Share
from herovlm.demo import WEIGHTS, load, scenes
from herovlm.types import Needs, Seen
from training.demo import data, words

METHODS = ("random", "cls_topk", "hero", "hero(low_layers=(0.27,))")
KEEPS = (0.4, 0.2, 0.1, 0.05)


def looked_up(picture: data.Picture) -> list[tuple[scenes.Question, scenes.Item]]:
    """Questions that need one label, with its item."""
    found = []
    for question in picture.scene.questions:
        wanted = question.answer if question.kind == "fine" else question.text
        items = [item for item in picture.scene.items if item.text in wanted]
        if question.kind in ("fine", "reverse"):
            found.append((question, items[0]))
    return found


def views(model: Any, processor: Any, limit: int) -> Iterator[tuple[data.Picture, scenes.Question, Seen, Tensor]]:
    """Every question that needs a label, what the tower saw, and the patches of that label, (T, N) bool."""
    family = registry.family(model)
    needs = Needs(tuple(range(family.depth(model))), cls=True, relevance="tower")
    for seed in list(scenes.SPLITS["development"])[:limit]:
        picture = data.picture(seed)
        for question, item in looked_up(picture):
            inputs = processor(images=picture.scene.image, text=words.prompt(question.text), return_tensors="pt")
            (seen,) = see(model, inputs, needs=needs).seen(needs, question.text)
            digits = torch.tensor([int(char) for char in item.text if char != "."])
            yield picture, question, seen, (picture.targets[..., 2:] == digits).all(-1)


def main() -> None:
    """Measure and write one JSON object, shares in percent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument("--limit", type=int, default=80, help="scenes of the development split")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    model, processor = load(args.model)
    looks: dict[str, dict[int, list[float]]] = {"shapes": {}, "labels": {}}
    hits: dict[str, list[bool]] = {}
    for picture, question, seen, label in views(model, processor, args.limit):
        labels = picture.targets[..., 2] >= 0
        places = {"shapes": (picture.targets[..., 0] != data.NONE) & ~labels, "labels": labels}
        for block, rows in seen.attention.items():
            share = rows.mean(1) / rows.mean(1).mean(-1, keepdim=True)  # (T, N), 1 = chance
            for name, where in places.items():
                looks[name].setdefault(block, []).append(float(share[1:][where[1:]].mean()))
        best = 1 + int(seen.relevance[1:].argmax())
        hits.setdefault(f"most relevant tile, {question.kind}", []).append(bool(label[best].any()))
        for method in METHODS:
            for keep in KEEPS:
                kept = spec.parse(method).keep(seen, Share(keep).of(seen.positions), share=keep)
                hits.setdefault(f"label kept, {method}@{keep}", []).append(bool((kept.mask & label).any()))
    result = {
        "benchmark": "demo_tower",
        "split": "development",
        "scenes": args.limit,
        "attention_over_chance": {
            name: {block: round(sum(v) / len(v), 2) for block, v in by.items()} for name, by in looks.items()
        },
        "percent_of_questions": {name: round(100 * sum(v) / len(v), 1) for name, v in hits.items()},
        "questions": {kind: len(hits[f"most relevant tile, {kind}"]) for kind in ("fine", "reverse")},
    }
    args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
