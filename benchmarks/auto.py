"""What `keep="auto"` promises and what it loses: `python benchmarks/auto.py --json FILE|-`.

Calibrates on development scenes (positions for each different patch against the loss of accuracy), then keeps the
promise to the test on held-out scenes, beside the fixed share that sends as many positions on average.  Answers are
judged by teacher forcing, the language model in bfloat16.  Resumable: one line a scene in --records.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import judging
import numpy as np
import torch
import transformers
from judging import Line

from herovlm import auto
from herovlm.budget import Share, Tokens
from herovlm.demo import scenes
from herovlm.eval.answer import Reader
from herovlm.eval.calibrate import EACH, curve_of, lost
from herovlm.eval.likelihood import judge
from herovlm.eval.plan import Config, config
from herovlm.methods.hero_plus import HeroPlus

SHARES = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56, 0.8)
PROMISES = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)


def measured(reader: Reader, seed: int) -> Line:
    """Judge a scene at every budget that is asked of it."""
    scene = scenes.make(seed)
    questions, answers = [q.text for q in scene.questions], [q.answer for q in scene.questions]
    (row, *_) = reader.sheet(scene.image, questions[:1], [config("hero_plus@0.5")]).rows
    seen = row.choice.seen[row.question]
    count, most = auto.different(seen), seen.positions
    asked: dict[str, Config] = {"full": config("full@1.0")}
    asked |= {f"share {share}": Config(HeroPlus(), Share(share)) for share in SHARES}
    asked |= {f"each {each}": _at(round(each * count), most) for each in EACH}
    found: dict[Config, list[Any]] = {}
    for one in judge(reader, scene.image, questions, answers, list(dict.fromkeys(asked.values()))):
        found.setdefault(one.config, []).append([one.right, one.kept])
    return {"scene": seed, "different": count, "of": most, "judged": {name: found[one] for name, one in asked.items()}}


def promised(reader: Reader, seed: int, curve: Sequence[tuple[float, float]]) -> Line:
    """Judge a scene at the budgets that the curve promises enough for, too."""
    line = measured(reader, seed)
    scene = scenes.make(seed)
    questions, answers = [q.text for q in scene.questions], [q.answer for q in scene.questions]
    asked = {
        f"loss {loss}": _at(round(min(auto.positions_each(loss, curve), 1e6) * line["different"]), line["of"])
        for loss in PROMISES
    }
    found: dict[Config, list[Any]] = {}
    for one in judge(reader, scene.image, questions, answers, list(dict.fromkeys(asked.values()))):
        found.setdefault(one.config, []).append([one.right, one.kept])
    line["judged"] |= {name: found[one] for name, one in asked.items()}
    return line


def _at(budget: int, most: int) -> Config:
    return config("full@1.0") if budget >= most else Config(HeroPlus(), Tokens(max(1, budget)))


def summary(lines: Sequence[Line], name: str) -> dict[str, Any]:
    """Share of the full model's accuracy that is lost, with interval, and the mean share of positions."""
    ours, full = (np.array([[sum(r for r, _ in line["judged"][which])] for line in lines]) for which in (name, "full"))
    kept = sum(n for line in lines for _, n in line["judged"][name])
    of = sum(line["of"] * len(line["judged"][name]) for line in lines)
    return {**lost(ours, full, lambda sums: sums[..., 0]), "mean_keep": round(kept / of, 4)}


def main() -> None:
    """Calibrate, test, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="two scenes of each split")
    parser.add_argument("--scenes", type=int, default=200, help="of each split")
    parser.add_argument("--records", type=Path, default=Path("runs/auto"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", default="-", help="file to write, or - for standard output")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    reader, count = judging.reader(args.small), 2 if args.small else args.scenes

    def run(split: str, judge: Callable[[int], Line]) -> list[Line]:
        return judging.judged(args.records / f"{split}.jsonl", scenes.SPLITS[split][:count], split, judge)

    found = run("development", lambda seed: measured(reader, seed))
    names = [*(f"each {each}" for each in EACH), *(f"share {share}" for share in SHARES)]
    calibration = {name: summary(found, name) for name in names}
    curve = curve_of({each: calibration[f"each {each}"]["interval95"][1] for each in EACH})
    tested = run("held-out", lambda seed: promised(reader, seed, curve))
    result = {
        "benchmark": "auto",
        "method": "hero_plus",
        "small": args.small,
        "scenes": count,
        "questions": sum(len(line["judged"]["full"]) for line in tested),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "curve": curve,
        "calibration": calibration,
        "held_out": {name: summary(tested, name) for name in [*names, *(f"loss {loss}" for loss in PROMISES)]},
    }
    judging.hand_over(args.json, result)


if __name__ == "__main__":
    main()
