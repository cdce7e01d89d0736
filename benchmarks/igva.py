"""What fusing layers is worth: `python benchmarks/igva.py --trained runs/igva --json FILE|-` (after training/igva).

On held-out scenes, three models: the demo model as it is, with its projector trained on in the same steps (the
control), and with IGVA.  Answers are judged by teacher forcing (right = greedy decoding would say it).  Resumable: one
line a scene in --records.  Intervals are 95 % bootstrap intervals over scenes, and differences are paired by scene.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import judging
import numpy as np
import torch
import transformers
from safetensors.torch import load_file

from herovlm import demo, modules
from herovlm.demo import scenes
from herovlm.eval import stats
from herovlm.eval.answer import Reader
from herovlm.eval.likelihood import answer_ids, judge_rows
from herovlm.eval.plan import config

CONFIGS = ("full@1.0", "hero@0.2")
WAYS = ("plain", "control", "igva")
PAIRS = (("control", "plain"), ("igva", "plain"), ("igva", "control"))


def readers(trained: Path) -> dict[str, Reader]:
    """The three models."""
    made = {way: Reader(*demo.load(), max_new_tokens=8) for way in WAYS}
    made["control"].model.model.multi_modal_projector.load_state_dict(load_file(trained / "projector.safetensors"))
    modules.attach(made["igva"].model, trained / "igva")
    return made


def scene_of(every: Mapping[str, Reader], seed: int) -> judging.Line:
    """For each model and configuration, of each question its kind and whether it is right; and IGVA's weights."""
    scene, line = scenes.make(seed), judging.Line(scene=seed)
    questions = [one.text for one in scene.questions]
    for way, reader in every.items():
        sheet = reader.sheet(scene.image, questions, [config(told) for told in CONFIGS])
        wanted = [answer_ids(reader, one.text, one.answer) for one in scene.questions]
        for one in (own for rows in sheet.groups for own in judge_rows(reader, rows, wanted)):
            told = line.setdefault(f"{way} {one.config}", [])
            told.append([scene.questions[one.question].kind, one.right])
        part: Any = modules.part_of(reader.model)
        if part is not None:
            seen = [row.choice.seen[row.question] for row in sheet.rows[: len(questions)]]
            asked = [questions[row.question] for row in sheet.rows[: len(questions)]]
            weights = part.weights(seen, asked).tolist()
            kinds = [scene.questions[row.question].kind for row in sheet.rows[: len(questions)]]
            pairs = zip(kinds, weights, strict=True)
            line["weights"] = [[kind, [round(x, 4) for x in own]] for kind, own in pairs]
    return line


def counts(lines: Sequence[judging.Line], name: str, kind: str | None) -> Any:
    """Right answers and questions of each scene, (P, 2); of one kind, or of all."""
    asked = [[right for own, right in line[name] if kind in (None, own)] for line in lines]
    return np.array([[sum(some), len(some)] for some in asked])


def percent(sums: Any) -> Any:
    """Accuracy."""
    return 100 * sums[..., 0] / sums[..., 1]


def summary(lines: Sequence[judging.Line], told: str, kind: str | None) -> dict[str, Any]:
    """Accuracy of each model with its interval, and the paired differences."""
    own = {way: counts(lines, f"{way} {told}", kind) for way in WAYS}
    found: dict[str, Any] = {
        way: {"accuracy": rounded([percent(x.sum(0))])[0], "interval95": rounded(stats.interval(x, percent))}
        for way, x in own.items()
    }
    for ours, theirs in PAIRS:
        change = percent(own[ours].sum(0)) - percent(own[theirs].sum(0))
        between = stats.interval_between(own[ours], own[theirs], lambda a, b: percent(a) - percent(b))
        found[f"{ours} - {theirs}"] = {"difference": rounded([change])[0], "interval95": rounded(between)}
    return found


def rounded(values: Sequence[Any]) -> list[float]:
    """One digit behind the point."""
    return [round(float(value), 1) for value in values]


def weights_of(lines: Sequence[judging.Line]) -> dict[str, Any]:
    """Mean weights of the groups by kind of question, and how far they move within a kind."""
    found = {}
    for kind in scenes.QUESTION_KINDS:
        own = np.array([weights for line in lines for asked, weights in line["weights"] if asked == kind])
        found[kind] = {"mean": own.mean(0).round(3).tolist(), "deviation": own.std(0).round(3).tolist()}
    return found


def main() -> None:
    """Judge what is not judged yet, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="two scenes")
    parser.add_argument("--trained", type=Path, default=Path("runs/igva"), help="what training/igva wrote")
    parser.add_argument("--scenes", type=int, default=200, help="of the held-out split")
    parser.add_argument("--records", type=Path, default=Path("runs/igva/scenes.jsonl"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", default="-", help="file to write, or - for standard output")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    every = readers(args.trained)
    part: Any = modules.part_of(every["igva"].model)
    seeds = scenes.SPLITS["held-out"][: 2 if args.small else args.scenes]
    lines = judging.judged(args.records, seeds, "scenes", lambda seed: scene_of(every, seed))
    card = modules.on(every["igva"].model)[0].card.fields
    kinds = [None, *scenes.QUESTION_KINDS]
    result = {
        "benchmark": "igva",
        "small": args.small,
        "command": f"python benchmarks/igva.py --scenes {len(lines)}",
        "split": "held-out",
        "scenes": len(lines),
        "questions": sum(len(line[f"plain {CONFIGS[0]}"]) for line in lines),
        "training": card["training"],
        "sentence": card["sentence"],
        "groups": [list(group) for group in part.fusion.groups],
        "parameters": sum(weight.numel() for weight in part.fusion.parameters()),
        "bytes": (args.trained / "igva/model.safetensors").stat().st_size,
        "machine": f"{platform.machine()}, threads: {torch.get_num_threads()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "results": {told: {kind or "all": summary(lines, told, kind) for kind in kinds} for told in CONFIGS},
        "weights": weights_of(lines),
    }
    judging.hand_over(args.json, result)


if __name__ == "__main__":
    main()
