"""What a shorter way through the vision tower saves, and costs: `python benchmarks/narrow.py [--small] --json FILE|-`.

Time: to see one image of 5 tiles (tower, signals and projector; CLIP ViT-L/14-336, random weights), ways taking turns:

plain     every block for every patch
hero      HERO's signals, with what nobody reads left out: the last block after its attention, but for the CLS token
vtc_cls   the same for a method that reads nothing behind the features
0.75 ...  HERO's signals in a tower that is narrowed to that share of the patches behind its middle

Accuracy: exact match on development scenes of the demo model, in percent, whole and narrowed.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import record
import torch

from herovlm import demo, dropping, parse, registry
from herovlm.cost import shapes
from herovlm.cost.clock import race, timed
from herovlm.demo import scenes
from herovlm.eval import stats
from herovlm.methods.base import resolve
from herovlm.request import MIDDLE
from herovlm.towers import shortcut
from herovlm.towers.narrow import Narrow

SHARES = (0.75, 0.5, 0.25)
ASKED = (("hero", 0.2), ("hero", 0.1), ("vtc_cls", 0.2))


def ways(model: Any) -> dict[str, Callable[[], Any]]:
    """The ways to see one image."""
    family, inputs = registry.family(model), shapes.prompt(model)
    depth = family.depth(model)
    needs = {name: parse(name).needs(depth) for name in ("hero", "vtc_cls")}

    images = family.layouts(model, inputs)
    look = partial(family.see, model, inputs, images)

    def plain() -> None:
        with mock.patch.object(shortcut, "taken", return_value=nullcontext()):
            look(needs["hero"])

    found: dict[str, Callable[[], Any]] = {"plain": plain}
    found |= {name: partial(look, need) for name, need in needs.items()}
    (middle,) = resolve((MIDDLE,), depth)
    cuts = {str(share): Narrow(min(middle, depth - 3), share) for share in SHARES}  # features come two blocks later
    return found | {name: partial(look, needs["hero"], cut) for name, cut in cuts.items()}


@torch.no_grad()
def right(model: Any, processor: Any, scene: scenes.Scene, method: str, keep: float, narrow: float) -> float:
    """Count the questions of one scene that are answered rightly, all of them in one batch."""
    asked = [question.text for question in scene.questions]
    turns = [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}] for text in asked]
    prompts = [processor.apply_chat_template(turn, add_generation_prompt=True) for turn in turns]
    inputs = processor(images=[[scene.image]] * len(asked), text=prompts, return_tensors="pt", padding=True)
    with dropping(model, method=method, keep=keep, narrow=narrow, question=asked):
        out = model.generate(**inputs, max_new_tokens=6, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    told = [answer.split("</s>")[0].strip() for answer in processor.batch_decode(out)]
    return float(sum(a == question.answer for a, question in zip(told, scene.questions, strict=True)))


def accuracy(count: int) -> dict[str, Any]:
    """Exact match of each method at each share, with its interval: "hero@0.2" -> share -> percent."""
    model, processor = demo.load()
    processor.tokenizer.padding_side = "left"
    found: dict[str, dict[float, list[tuple[float, int]]]] = defaultdict(lambda: defaultdict(list))
    for seed in list(scenes.SPLITS["development"])[:count]:
        scene = scenes.make(seed)
        for method, keep in ASKED:
            for share in (1.0, *SHARES):
                counts = right(model, processor, scene, method, keep, share), len(scene.questions)
                found[f"{method}@{keep}"][share].append(counts)
    return {name: {str(share): percent(np.array(c)) for share, c in of.items()} for name, of in found.items()}


def percent(counts: Any) -> dict[str, Any]:
    """Sum up (scenes, 2), right answers and questions."""

    def total(sums: Any) -> Any:
        return 100 * sums[..., 0] / sums[..., 1]

    low, high = stats.interval(counts, total)
    return {"accuracy": round(float(total(counts.sum(0))), 1), "interval95": [round(low, 1), round(high, 1)]}


@torch.no_grad()
def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Race the ways, and ask the demo model."""
    model = record.model(args, llm_layers=1)
    samples = race({name: timed(run, model.device) for name, run in ways(model).items()}, args.rounds)
    del model
    count = 1 if args.small else args.scenes
    return {
        "tiles": 5,
        "middle": MIDDLE,
        "scenes": count,
        "ratios": record.ratios(samples, "seconds", "plain"),
        "times": record.spreads(samples),
        "accuracy": accuracy(count),
    }


if __name__ == "__main__":
    record.main(__doc__, "narrow", measure, rounds=5, scenes={"type": int, "default": 60, "help": "to ask about"})
