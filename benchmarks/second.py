"""Does contrast over scales, or over budgets, reduce false "yes": `python benchmarks/second.py --json FILE|-`.

Existence questions on held-out scenes, as POPE asks them: of each scene one thing that is there, and some that are not:
a random one, the most frequent one, and the one that most often stands beside what is there (both counted on training
scenes); and, ours, one whose colour and shape are both there, on two things.  Each absent thing is paired with the one
that is there, so that half of the answers of each sort are "yes".  Greedy answers, float32.
Resumable: one line a scene in --records.  Intervals and paired differences are by scene.
"""

from __future__ import annotations

import argparse
import platform
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import judging
import numpy as np
import torch
import transformers

from herovlm.api import answered
from herovlm.demo import draw, scenes
from herovlm.eval import stats
from herovlm.eval.answer import Reader
from herovlm.eval.plan import Config, config
from herovlm.prompt.template import prompt
from herovlm.view import see

SORTS = ("random", "frequent", "co-occurring", "both parts there")
EVERY = "second(refresh='every')"
CONFIGS = {  # name -> its spec, and what it is compared with
    "full": ("full@1.0", "full"),
    "second": ("full + second@1.0", "full"),
    EVERY: (f"full + {EVERY}@1.0", "second"),
    "second(alphas=0.0)": ("full + second(alphas=0.0)@1.0", "full"),
    "second(lambdas=100.0)": ("full + second(lambdas=100.0)@1.0", "full"),
    "contrast(weight=0.5)": ("full + contrast(weight=0.5)@1.0", "full"),
    "contrast(weight=1.0)": ("full + contrast(weight=1.0)@1.0", "full"),
}
for keep in (0.1, 0.05):
    CONFIGS[f"hero@{keep}"] = (f"hero@{keep}", "full")
    for amateur, weights in (("hero", (0.5, 1.0)), ("random", (1.0,))):
        for weight in weights:
            how = f"contrast(amateur='{amateur}', keep=0.02, weight={weight})"
            CONFIGS[f"hero@{keep} + {how}"] = (f"hero + {how}@{keep}", f"hero@{keep}")
COSTLY = {name for name in CONFIGS if name.startswith(("second", "contrast"))}  # asked of fewer scenes
LEARNT = 2000  # training scenes that are counted
TIMED = ("full", "second", EVERY, "second(alphas=0.0)", "contrast(weight=0.5)")
Name = str


def learnt(count: int) -> tuple[Counter[Name], Counter[tuple[Name, Name]]]:
    """Count on training scenes in how many a thing is, and in how many two are together."""
    alone, both = Counter[Name](), Counter[tuple[Name, Name]]()
    for seed in scenes.SPLITS["train"][:count]:
        names = {item.name for item in scenes.make(seed).items}
        alone.update(names)
        both.update(permutations(names, 2))
    return alone, both


def asked(scene: scenes.Scene, alone: Counter[Name], both: Counter[tuple[Name, Name]]) -> dict[str, Name]:
    """Choose what is asked about: "there", and of each sort of absent things one."""
    rng = random.Random(f"existence {scene.seed}")
    there = sorted({item.name for item in scene.items})
    every = [f"{colour} {shape}" for colour in draw.COLOURS for shape in draw.SHAPES]
    absent = [name for name in every if name not in there]
    rng.shuffle(absent)  # of equals any
    colours, shapes = ({name.split()[part] for name in there} for part in (0, 1))
    parts = [name for name in absent if name.split()[0] in colours and name.split()[1] in shapes]
    return {
        "there": rng.choice(there),
        "random": rng.choice(absent),
        "frequent": max(absent, key=lambda name: alone[name]),
        "co-occurring": max(absent, key=lambda name: sum(both[one, name] for one in there)),
        "both parts there": rng.choice(parts or absent),
    }


def answers(reader: Reader, seed: int, names: Mapping[str, Name], told: Mapping[Name, Config]) -> judging.Line:
    """For each way, of each question whether the answer was "yes", visual positions read, and passes."""
    scene = scenes.make(seed)
    things = [names["there"], *(names[sort] for sort in SORTS)]
    found = reader.answer(scene.image, [f"Is there a {name}?" for name in things], list(told.values()))
    if found.refused or found.failed:
        raise SystemExit(f"scene {seed}: {found.refused or found.failed}")
    lines: dict[str, Any] = {"scene": seed, "things": things}
    for name, way in told.items():
        own = [one for one in found.answers if one.config == way]
        passes = [one.facts.get("passes", one.facts.get("streams", 1)) for one in own]
        said = [one.text.lower() == "yes" for one in own]
        lines[name] = [[yes, one.kept, times] for yes, one, times in zip(said, own, passes, strict=True)]
        if "share" in own[0].facts:
            lines[f"{name}, facts"] = [[one.facts[what] for what in ("kept", "entropy", "share")] for one in own]
    return lines


def counts(line: judging.Line, name: Name, sorts: Sequence[str]) -> list[int]:
    """Count true and false "yes" and "no" of a scene: the question about what is there belongs to each sort."""
    there, *absent = (int(yes) for yes, *_ in line[name])
    wrong = sum(absent[SORTS.index(sort)] for sort in sorts)
    return [there * len(sorts), wrong, (1 - there) * len(sorts), len(sorts) - wrong]


def accuracy(sums: Any) -> Any:
    """Accuracy in percent of counts (..., 4)."""
    return 100 * (sums[..., 0] + sums[..., 3]) / sums.sum(-1)


def summary(lines: Sequence[judging.Line], name: Name, beside: Name) -> dict[str, Any]:
    """What was said, by sort and of all sorts together, with intervals; and the difference from another way."""
    lines = [line for line in lines if name in line]
    found: dict[str, Any] = {"scenes": len(lines), "against": beside, "sorts": {}}
    for sort in (*SORTS, "all"):
        sorts = SORTS if sort == "all" else (sort,)
        own, other = (np.array([counts(line, one, sorts) for line in lines]) for one in (name, beside))
        hits, wrong, missed, right = own.sum(0).tolist()
        between = stats.interval_between(own, other, lambda ours, theirs: accuracy(ours) - accuracy(theirs))
        false = stats.interval(own, lambda sums: 100 * sums[..., 1] / (sums[..., 1] + sums[..., 3]))
        found["sorts"][sort] = {
            "accuracy": round(float(accuracy(own.sum(0))), 1),
            "interval95": [round(x, 1) for x in stats.interval(own, accuracy)],
            "f1": round(200 * hits / max(1, 2 * hits + wrong + missed), 1),
            "yes": round(100 * (hits + wrong) / (hits + wrong + missed + right), 1),
            "false_yes": round(100 * wrong / (wrong + right), 1),
            "false_yes95": [round(x, 1) for x in false],
            "difference": round(float(accuracy(own.sum(0)) - accuracy(other.sum(0))), 1),
            "difference95": [round(x, 1) for x in between],
        }
    said = [one for line in lines for one in line[name]]
    found["positions"] = round(float(np.mean([one[1] for one in said])), 1)
    found["passes"] = round(float(np.mean([one[2] for one in said])), 2)
    if f"{name}, facts" in lines[0]:
        told = [one for line in lines for one in line[f"{name}, facts"]]
        for place, what in enumerate(("kept", "entropy", "share")):
            found[what] = [round(float(x), 3) for x in np.mean([one[place] for one in told], 0)]
    return found


@torch.no_grad()
def seconds(reader: Reader, seeds: Sequence[int], names: Callable[[scenes.Scene], Mapping[str, Name]]) -> Any:
    """Processor seconds from pixels to answer, one prompt at a time, ways in turn; the median over scenes."""
    took: dict[str, list[float]] = {name: [] for name in TIMED}
    told = {name: config(CONFIGS[name][0]).request for name in TIMED}
    for number, seed in enumerate(seeds):
        scene = scenes.make(seed)
        text = prompt(reader.processor, f"Is there a {names(scene)['there']}?")
        inputs = reader.processor(images=[[scene.image]], text=[text], return_tensors="pt")
        for name, request in told.items():
            start = time.process_time()
            choice = see(reader.model, inputs, request).choose(request)
            answered([(choice, 0)], do_sample=False, max_new_tokens=reader.max_new_tokens, pad_token_id=0)
            if number:  # the first warms up
                took[name].append(time.process_time() - start)
    middle = {name: float(np.median(values)) for name, values in took.items()}
    return {
        "prompts": len(seeds) - 1,
        "seconds": {name: round(value, 4) for name, value in middle.items()},
        "over_full": {name: round(value / middle["full"], 2) for name, value in middle.items()},
    }


def main() -> None:
    """Ask what was not asked yet, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="one scene, and few ways")
    parser.add_argument("--scenes", type=int, default=120, help="of the held-out split")
    parser.add_argument("--some", type=int, default=40, help="scenes for the ways that read all of a picture again")
    parser.add_argument("--few", type=int, default=10, help="scenes for the way that reads it anew for every token")
    parser.add_argument("--records", type=Path, default=Path("runs/second.jsonl"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", default="-", help="file to write, or - for standard output")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    count, some, few = (1, 1, 1) if args.small else (args.scenes, args.some, args.few)
    names = ["full", "second", EVERY, "contrast(weight=0.5)"] if args.small else list(CONFIGS)
    told = {name: config(CONFIGS[name][0]) for name in names}
    alone, both = learnt(20 if args.small else LEARNT)
    reader = judging.reader(small=True)

    def of(seed: int) -> judging.Line:
        most = {name: few if name == EVERY else some if name in COSTLY else count for name in told}
        own = {name: way for name, way in told.items() if seed < most[name]}
        return answers(reader, seed, asked(scenes.make(seed), alone, both), own)

    lines = judging.judged(args.records, scenes.SPLITS["held-out"][:count], "scenes", of)
    result = {
        "benchmark": "second",
        "small": args.small,
        "command": " ".join(["python benchmarks/second.py", *(["--small"] if args.small else [])]),
        "split": "held-out",
        "scenes": len(lines),
        "questions": len(lines) * (1 + len(SORTS)),
        "counted_on": {"split": "train", "scenes": 20 if args.small else LEARNT, "most": alone.most_common(3)},
        "language_model": "float32",
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "ways": {name: CONFIGS[name][0] for name in names},
        "results": {name: summary(lines, name, CONFIGS[name][1]) for name in names},
        "time": seconds(reader, range(2 if args.small else 9), lambda scene: asked(scene, alone, both)),
    }
    judging.hand_over(args.json, result)


if __name__ == "__main__":
    main()
