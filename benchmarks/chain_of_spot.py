"""A crop against more tokens: `python benchmarks/chain_of_spot.py --json FILE|-`.

One fine-text question a held-out scene, on pictures as the demo model knows them and on pictures twice as large, which
its processor halves, so that no label can be read.  Ways are compared at about equal numbers of visual positions, read
in all passes together.  The crop is cut out of the picture as it came.  Boxes are compared with a square of one tile
around the thing that was asked about; a hit is a crop that holds all of its label.  The taught ways have the module
chain_of_spot attached, and a first turn that reads all of the picture; the last of the others reads about as many.
Greedy answers in float32.  Resumable: a line a scene, in a file a group, in --records.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import judging
import numpy as np
import torch
import transformers

from herovlm import modules
from herovlm.api import answered
from herovlm.demo import load, scenes
from herovlm.eval import stats
from herovlm.eval.answer import Reader
from herovlm.eval.plan import config
from herovlm.ops import region
from herovlm.prompt.template import prompt
from herovlm.strategies import crops
from herovlm.view import see

MODULE = "chain_of_spot"
LARGE = ((768, 768), (768, 576), (576, 768))  # width, height
SPOT = "hero + chain_of_spot"
GROUPS = {  # pictures, and whether the model was taught -> ways
    ("as drawn", "plain"): (
        "full@1.0",
        "hero@67t",
        f"{SPOT}(roi=attention, crop_keep=0.2)@40t",
        f"{SPOT}(roi=attention)@173t",  # about as many as the taught one reads
    ),
    ("as drawn", "taught"): (f"{SPOT}(crop_keep=0.14)@24t",),
    ("twice as large", "plain"): (
        "full@1.0",
        "hero@115t",
        f"{SPOT}(roi=attention, crop_keep=0.2)@48t",
        f"{SPOT}(roi=attention)@80t",
    ),
    ("twice as large", "taught"): (f"{SPOT}(crop_keep=0.5)@24t",),
}
COUNTED = "process time of one thread"


def scene_of(seed: int, pictures: str) -> scenes.Scene:
    """Draw a held-out scene."""
    return scenes.make(seed) if pictures == "as drawn" else scenes.make(seed, size=LARGE[seed % 3], most=16)


def asked(scene: scenes.Scene) -> tuple[scenes.Question, scenes.Item]:
    """Return the first fine question, and what it is about."""
    question = scene.questions[0]
    return question, next(item for item in scene.items if f"the {item.name}?" in question.text)


def shares(box: scenes.Box, size: tuple[int, int]) -> region.Box:
    """Turn pixels of a picture into shares of its square."""
    (width, height), (left, top, right, bottom) = size, box
    return crops.within(size, (left / width, top / height, right / width, bottom / height))


def answers(reader: Reader, seed: int, pictures: str, ways: Sequence[str]) -> judging.Line:
    """For each way: whether it was right, positions read, passes, the box's overlap and whether it holds the label."""
    scene = scene_of(seed, pictures)
    question, item = asked(scene)
    found = reader.answer(scene.image, [question.text], [config(way) for way in ways])
    if found.refused or found.failed:
        raise SystemExit(f"scene {seed}: {found.refused or found.failed}")
    line: dict[str, Any] = {"scene": seed}
    for way, one in zip(ways, found.answers, strict=True):
        line[way] = {"right": one.text == question.answer, "positions": one.kept, "passes": one.facts.get("passes", 1)}
        if "box" in one.facts:
            box, label = tuple(one.facts["box"]), shares(item.label_box, scene.image.size)
            holds = all(a <= b + 1e-3 for a, b in zip(box[:2], label[:2], strict=True))
            holds = holds and all(a >= b - 1e-3 for a, b in zip(box[2:], label[2:], strict=True))
            target = shares(scenes.around(item, scene.image.size), scene.image.size)
            line[way] |= {"iou": region.overlap(box, target), "hit": holds, "whole": one.facts["whole"]}
    return line


def summary(lines: Sequence[judging.Line], way: str) -> dict[str, Any]:
    """Accuracy in percent with its interval, positions, passes, and how good the boxes are."""
    own = [line[way] for line in lines]
    right = np.array([[one["right"], 1] for one in own], float)
    interval = stats.interval(right, lambda sums: 100 * sums[..., 0] / sums[..., 1])
    found: dict[str, Any] = {
        "scenes": len(own),
        "accuracy": round(100 * float(right[:, 0].mean()), 1),
        "interval95": [round(end, 1) for end in interval],
        "positions": round(float(np.mean([one["positions"] for one in own])), 1),
        "passes": round(float(np.mean([one["passes"] for one in own])), 2),
    }
    if "iou" in own[0]:
        found["iou"] = round(float(np.mean([one["iou"] for one in own])), 3)
        found |= {name: round(100 * float(np.mean([one[name] for one in own])), 1) for name in ("hit", "whole")}
    return found


@torch.no_grad()
def seconds(reader: Reader, seeds: Sequence[int], pictures: str, ways: Sequence[str]) -> dict[str, float]:
    """Processor seconds from pixels to answer, one prompt at a time, ways in turn; the median over scenes."""
    took: dict[str, list[float]] = {way: [] for way in ways}
    for number, seed in enumerate(seeds):
        scene = scene_of(seed, pictures)
        text = asked(scene)[0].text
        given = {"text": [prompt(reader.processor, text)], "return_tensors": "pt"}
        inputs = reader.processor(images=[[scene.image]], **given)
        for way in ways:
            start = time.process_time()
            request = config(way).request
            more = {"question": text, "processor": reader.processor, "pictures": (scene.image,)}
            request = type(request)(**{**vars(request), **more})
            choice = see(reader.model, inputs, request).choose(request)
            answered([(choice, 0)], do_sample=False, max_new_tokens=reader.max_new_tokens, pad_token_id=0)
            if number:  # the first warms up
                took[way].append(time.process_time() - start)
    return {way: round(float(np.median(values)), 4) for way, values in took.items()}


def main() -> None:
    """Ask what was not asked yet, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="two scenes")
    parser.add_argument("--scenes", type=int, default=200, help="of the held-out split")
    parser.add_argument("--records", type=Path, default=Path("runs/chain_of_spot"), help="folder of the lines")
    parser.add_argument("--only", choices=["plain", "taught"], help="the ways of one kind; writes no result")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", default="-", help="file to write, or - for standard output")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    count = 2 if args.small else args.scenes
    reader = Reader(*load(), max_new_tokens=8)
    seeds, taught = scenes.SPLITS["held-out"][:count], MODULE in modules.names()
    results: dict[str, dict[str, Any]] = {}
    for (pictures, kind), ways in GROUPS.items():
        if args.only not in (None, kind) or (kind == "taught" and not taught):
            continue
        with modules.attach(reader.model, MODULE) if kind == "taught" else nullcontext():
            file = args.records / f"{pictures.replace(' ', '_')}-{kind}.jsonl"
            lines = judging.judged(
                file, seeds, f"{pictures}, {kind}", lambda seed, p=pictures, w=ways: answers(reader, seed, p, w)
            )
            took = {} if args.only else seconds(reader, range(2 if args.small else 8), pictures, ways)
        for way in ways:
            results.setdefault(pictures, {})[way] = summary(lines, way) | {"seconds": took.get(way)}
    if args.only is None:
        judging.hand_over(args.json, _record(args, count, results))


def _record(args: argparse.Namespace, count: int, results: Mapping[str, Any]) -> dict[str, Any]:
    """Say what was measured on what."""
    return {
        "benchmark": "chain_of_spot",
        "small": args.small,
        "split": "held-out",
        "scenes": count,
        "language_model": "float32",
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "clock": COUNTED,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "results": results,
    }


if __name__ == "__main__":
    main()
