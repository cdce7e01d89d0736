"""What fields of `hero_plus` and parts of HERO are worth: `python benchmarks/ablation.py --json FILE|-`.

On development scenes.  One field is varied at a time around today's defaults; parts are left out or swapped.  Answers
are judged by teacher forcing (right = greedy decoding would say it), with the language model in bfloat16 for speed.
Resumable: one line a scene in --records.  Every difference is paired by scene, with its 95 % bootstrap interval.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import judging
import numpy as np
import torch
import transformers

from herovlm.demo import scenes
from herovlm.eval import stats
from herovlm.eval.answer import Reader
from herovlm.eval.likelihood import judge
from herovlm.eval.plan import Config, config

KEEPS = (0.4, 0.2, 0.1, 0.05)
BASE = "hero_plus"
DEPTHS = (
    0.09,
    0.18,
    0.27,
    0.36,
    0.45,
    0.55,
    0.64,
    0.73,
    0.82,
    0.91,
    1.0,
)  # every block of the demo tower but the first
FIELDS: dict[str, Sequence[object]] = {
    "low_layers": [*((depth,) for depth in DEPTHS), (0.55, 0.64, 0.73), (0.64, 0.73, 0.82)],
    "high_layers": [(depth,) for depth in DEPTHS],
    "alpha": (0.0, 0.5, 0.75, 1.0),
    "t_cls": (0.02, 0.5),
    "t_clip": (0.01, 0.02, 0.05, 0.1),
    "density": (0.0, 0.1, 0.4),
    "thumbnail": (0.0, 0.1, 0.2, 0.4),
    "novelty": (0.0, 0.5, 2.0),
    "overview": (0.0, 4.0, 8.0, 16.0),
    "newlines": ("touched", "all"),
}
HERO = "hero, as it is"
PARTS = {  # what each part of the paper's rules is worth, alone (hero) and with our two rules (hero_plus)
    "without saliency": "alpha=0.0",
    "without relevance": "alpha=1.0",
    "without saliency and relevance": "density=1.0",
    "both by early layers": "high_layers=(0.64, 0.73)",
    "both by late layers": "low_layers=(0.95,)",
    "layers swapped": "low_layers=(0.95,), high_layers=(0.64, 0.73)",
}


def plan(small: bool) -> dict[str, str]:
    """Name of every variation -> its method and whether positions stay: "novelty=0.5" -> "hero_plus(novelty=0.5)"."""
    told = {BASE: BASE, "positions=original": f"{BASE}:original"}
    told |= {f"{name}={value!r}": f"{BASE}({name}={value!r})" for name, values in FIELDS.items() for value in values}
    told[HERO] = "hero"
    told |= {f"{method}, {part}": f"{method}({fields})" for method in ("hero", BASE) for part, fields in PARTS.items()}
    return dict(list(told.items())[:3]) if small else told


def at(told: str, keep: float) -> Config:
    """ "hero(...):original", 0.2 -> the configuration."""
    method, _, numbers = told.partition(":")
    return config(f"{method}@{keep}:{numbers}")


def scene_of(reader: Reader, told: dict[str, str], keeps: Sequence[float], seed: int) -> judging.Line:
    """For each variation and keep, of each question of a scene its kind, whether right, and log-probability."""
    configs = {(name, keep): at(method, keep) for name, method in told.items() for keep in keeps}
    full, scene = config("full@1.0"), scenes.make(seed)
    questions, answers = [q.text for q in scene.questions], [q.answer for q in scene.questions]
    found: dict[Config, list[Any]] = {}
    for one in judge(reader, scene.image, questions, answers, list(dict.fromkeys([full, *configs.values()]))):
        found.setdefault(one.config, []).append([scene.questions[one.question].kind, one.right, round(one.log, 4)])
    lines = {f"{name}@{keep}": found[one] for (name, keep), one in configs.items() if one in found}
    return {"scene": seed, "full@1.0": found[full], **lines}


def summary(lines: Sequence[dict[str, Any]], name: str, besides: dict[str, str]) -> dict[str, Any]:
    """Accuracy in percent with interval, paired differences from others, and the mean log-probability."""
    asked = [question for line in lines for question in line[name]]
    kinds = {kind: [right for k, right, _ in asked if k == kind] for kind in scenes.QUESTION_KINDS}
    share, change = (lambda c: 100 * c[..., 0] / c[..., 2]), (lambda c: 100 * (c[..., 0] - c[..., 1]) / c[..., 2])

    def beside(other: str) -> Any:
        pairs = ((_counts(line[name]), _counts(line[other])) for line in lines)
        return np.array([[ours[0], theirs[0], ours[1]] for ours, theirs in pairs])

    alone = beside(name)
    against = {told: beside(other) for told, other in besides.items()}
    return {
        "accuracy": round(float(share(alone.sum(0))), 1),
        "interval95": [round(x, 1) for x in stats.interval(alone, share)],
        "against": {
            told: {
                "difference": round(float(change(counts.sum(0))), 1),
                "difference95": [round(x, 1) for x in stats.interval(counts, change)],
            }
            for told, counts in against.items()
        },
        "log_probability": round(sum(max(log, -10.0) for _, _, log in asked) / len(asked), 3),
        "kinds": {kind: round(100 * sum(right) / len(right), 1) for kind, right in kinds.items() if right},
    }


def _besides(name: str, keep: float) -> dict[str, str]:
    """What a variation is compared with."""
    others = [BASE] if name != BASE else []
    others += [HERO] if name.startswith("hero, ") and name != HERO else []
    return {other: f"{other}@{keep}" for other in others}


def _counts(asked: Sequence[Any]) -> tuple[int, int]:
    return sum(right for _, right, _ in asked), len(asked)


def main() -> None:
    """Judge what is not judged yet, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="two scenes and three variations")
    parser.add_argument("--scenes", type=int, default=150, help="of the development split")
    parser.add_argument("--first", type=int, default=0, help="scenes that are left out")
    parser.add_argument("--records", type=Path, default=Path("runs/ablation.jsonl"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", default="-", help="file to write, or - for standard output")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    told, keeps = plan(args.small), KEEPS[1:3] if args.small else KEEPS
    split = scenes.SPLITS["development"][args.first :]
    seeds = split[: 2 if args.small else args.scenes]
    reader = judging.reader(args.small)
    lines = judging.judged(args.records, seeds, "scenes", lambda seed: scene_of(reader, told, keeps, seed))
    result = {
        "benchmark": "ablation",
        "small": args.small,
        "split": "development",
        "scenes": len(lines),
        "questions": sum(len(line["full@1.0"]) for line in lines),
        "language_model": "float32" if args.small else "bfloat16",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "full": summary(lines, "full@1.0", {})["accuracy"],
        "methods": told,
        "variations": {
            name: {
                str(keep): summary(lines, at_keep, _besides(name, keep))
                for keep in keeps
                if all((at_keep := f"{name}@{keep}") in line for line in lines)  # some cannot keep so little
            }
            for name in told
        },
    }
    judging.hand_over(args.json, result)


if __name__ == "__main__":
    main()
