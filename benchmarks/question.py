"""Where a server should embed the question: `python benchmarks/question.py [--small] --json FILE|-`.

Of the real shape (the text tower of CLIP ViT-L/14-336, random weights, float32), taking turns in one process:

pixels    what the front end does anyway for each request: one picture of 1000 x 750 becomes tiles
alone     a question embedded by itself: what the front end, which takes requests one by one, would do besides
together  eight questions in one pass of the text tower, over eight: what the worker does for a step of requests
again     a question that was embedded before, as a conversation about one picture asks
"""

from __future__ import annotations

import argparse
from typing import Any

import record
import torch
from PIL import Image
from transformers import LlavaNextImageProcessor

from herovlm.cost import shapes
from herovlm.cost.clock import race, timed
from herovlm.towers import relevance

AT_ONCE, SIZE = 8, (1000, 750)  # width, height


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Race the four."""
    args.llm_layers = 1  # nothing is read by it
    model = record.model(args)
    clip = relevance.clip_of(model)
    device = torch.device(args.device)
    picture = Image.effect_noise(SIZE, 80).convert("RGB")
    pixels = LlavaNextImageProcessor()
    questions = [f"{shapes.QUESTION[:-1]} of number {n}?" for n in range(AT_ONCE)]

    def embed(some: list[str], anew: bool = True) -> None:
        if anew:
            relevance.forget(clip)
        relevance.sentences(model, some, device)

    ways = {
        "pixels": lambda: pixels(images=[picture], return_tensors="pt"),
        "alone": lambda: embed(questions[:1]),
        "together": lambda: embed(questions),
        "again": lambda: embed(questions[:1], anew=False),
    }
    samples = race({name: timed(way, device) for name, way in ways.items()}, args.rounds)
    samples["together"]["seconds"] = [seconds / AT_ONCE for seconds in samples["together"]["seconds"]]
    return {
        "at_once": AT_ONCE,
        "tokens": shapes.spelled(questions[0])["input_ids"].shape[1],
        "results": {name: own["seconds"] for name, own in record.spreads(samples).items()},
        "ratios": record.ratios(samples, "seconds", "pixels"),
    }


if __name__ == "__main__":
    record.main(__doc__, "question", measure, rounds=15)
