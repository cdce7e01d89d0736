"""Does a memory of what was dropped buy back what dropping costs: `python benchmarks/age_vlm.py --json FILE|-`.

Held-out scenes, judged by teacher forcing, in float32.  Beside the full model each method at each share is judged three
times: plain; with cross-attention to the tokens that were dropped; and with the control, the same parts after the same
training, which look up the tokens that were kept.  Resumable: one line a scene in --records.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import judging
import numpy as np
import torch
import transformers
from judging import Line

from herovlm import demo
from herovlm.demo import scenes
from herovlm.eval import stats
from herovlm.eval.likelihood import forced
from herovlm.eval.plan import FULL, config
from herovlm.modules import stored
from herovlm.modules.cross_attention import CrossAttention
from herovlm.modules.recall import Recall
from herovlm.prompt.template import prompt
from herovlm.types import Short
from herovlm.view import see

METHODS, KEEPS = ("hero", "hero_plus"), (0.1, 0.05)
WAYS = ("plain", "control", "memory")
PAIRS = (("memory", "plain"), ("memory", "control"), ("control", "plain"))
KINDS = ("all", *scenes.QUESTION_KINDS)


def judged(model: Any, processor: Any, parts: Mapping[str, CrossAttention], seed: int) -> Line:
    """Judge a scene in every way; the tower looks at it once."""
    scene = scenes.make(seed)
    asked = [one.text for one in scene.questions]
    texts = [prompt(processor, text) for text in asked]
    wanted = [processor.tokenizer(f" {one.answer}", add_special_tokens=False).input_ids for one in scene.questions]
    names = [FULL, *(f"{method}@{keep}" for method in METHODS for keep in KEEPS)]
    requests = {name: config(name).request for name in names}
    view = see(model, processor(images=scene.image, text=texts[0], return_tensors="pt"), *requests.values())
    place = "<image>" * view.plan.images[0].positions
    given = processor.tokenizer(
        [text.replace("<image>", place) for text in texts], padding=True, padding_side="left", return_tensors="pt"
    )
    every = view.under(given["input_ids"], given["attention_mask"], [0] * len(asked))
    line: Line = {"scene": seed, "kinds": [one.kind for one in scene.questions], "judged": {}}
    for name, request in requests.items():
        choice = every.choose(replace(request, question=tuple(asked)))
        short = choice.rebuild()
        for way in WAYS[:1] if name == FULL else WAYS:
            found = read(model, short, wanted, parts.get(way), "kept" if way == "control" else "dropped")
            found["positions"] = [own.positions for own in choice.kept]
            line["judged"][f"{name} {way}"] = found
    return line


def read(
    model: Any, short: Short, wanted: Sequence[Sequence[int]], parts: CrossAttention | None, memory: str
) -> dict[str, Any]:
    """Judge the answers: right or not, their log-probability, tokens in the memory, seconds of the processor."""
    began, tokens = time.process_time(), [0] * len(wanted)
    recall = None if parts is None else Recall(model, parts, memory)
    if recall is not None and (order := recall.prepare(short, again=True)) is not None:
        tokens = order.tokens
    with nullcontext() if recall is None else recall.installed():
        right, log = forced(model, short, wanted, model.generation_config.eos_token_id)
    seconds = round(time.process_time() - began, 4)
    logs = [round(value, 4) for value in log.tolist()]
    return {"right": right.long().tolist(), "log": logs, "tokens": tokens, "seconds": seconds}


def counts(lines: Sequence[Line], name: str, kind: str) -> Any:
    """Right answers and questions of each scene, (P, 2), of one kind."""
    found = []
    for line in lines:
        right = [r for r, own in zip(line["judged"][name]["right"], line["kinds"], strict=True) if kind in ("all", own)]
        found.append([sum(right), len(right)])
    return np.array(found)


def accuracy(sums: Any) -> Any:
    """Percent right, of sums (..., 2)."""
    return 100 * sums[..., 0] / np.maximum(sums[..., 1], 1)


def summary(lines: Sequence[Line], name: str) -> dict[str, Any]:
    """Accuracy by kind with its interval, and what it takes."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        own = counts(lines, name, kind)
        low, high = stats.interval(own, accuracy)
        found[kind] = {"accuracy": round(float(accuracy(own.sum(0))), 2), "interval95": [round(low, 2), round(high, 2)]}
    every = [line["judged"][name] for line in lines]
    means = {what: [value for one in every for value in one[what]] for what in ("positions", "tokens", "log")}
    found |= {f"mean_{what}": round(float(np.mean(values)), 3) for what, values in means.items()}
    found["seconds_a_question"] = round(sum(one["seconds"] for one in every) / len(means["log"]), 5)
    return found


def between(lines: Sequence[Line], ours: str, theirs: str) -> dict[str, Any]:
    """Difference of two accuracies by kind, with its interval over scenes."""
    found: dict[str, Any] = {}
    change: Callable[[Any, Any], Any] = lambda a, b: accuracy(a) - accuracy(b)  # noqa: E731
    for kind in KINDS:
        a, b = counts(lines, ours, kind), counts(lines, theirs, kind)
        low, high = stats.interval_between(a, b, change)
        difference = float(change(a.sum(0), b.sum(0)))
        found[kind] = {"difference": round(difference, 2), "interval95": [round(low, 2), round(high, 2)]}
    return found


def bytes_of(parts: CrossAttention, config: Any, value: int = 2) -> dict[str, int]:
    """Bytes a token of the memory takes once it is keys and values, and one in the cache, with `value` a number."""
    text = config.text_config
    cache = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
    return {
        "memory_token": 2 * len(parts.shape.layers) * parts.shape.width * value,
        "cache_position": cache * value,
        "parameters": sum(weight.numel() for weight in parts.parameters()),
    }


def main() -> None:
    """Judge, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="two scenes")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--memory", default="age_vlm", help="parts that look up what was dropped: a name or a folder")
    parser.add_argument("--control", required=True, help="parts trained with --memory kept: a folder")
    parser.add_argument("--records", type=Path, default=Path("runs/age_vlm/judged"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", default="-", help="file to write, or - for standard output")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, processor = demo.load()
    found = {
        way: stored.load(stored.folder_of(name)) for way, name in (("memory", args.memory), ("control", args.control))
    }
    parts = {way: one.parts for way, one in found.items()}
    seeds = scenes.SPLITS["held-out"][: 2 if args.small else args.scenes]
    lines = judging.judged(
        args.records / "held-out.jsonl", seeds, "held-out", lambda seed: judged(model, processor, parts, seed)
    )
    names = list(lines[0]["judged"])
    groups = [f"{method}@{keep}" for method in METHODS for keep in KEEPS]
    pairs = [(f"{group} {ours}", f"{group} {theirs}") for group in groups for ours, theirs in PAIRS]
    result = {
        "benchmark": "age_vlm",
        "command": "python benchmarks/age_vlm.py --control runs/age_vlm/control --json benchmarks/results/age_vlm.json",
        "small": args.small,
        "scenes": len(lines),
        "questions": sum(len(line["kinds"]) for line in lines),
        "device": "cpu",
        "machine": f"{platform.machine()}, {args.threads} thread{'s' * (args.threads != 1)}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trained": {way: dict(one.trained) for way, one in found.items()},
        "bytes": bytes_of(parts["memory"], model.config),
        "results": {name: summary(lines, name) for name in names},
        "differences": {f"{ours} - {theirs.split()[-1]}": between(lines, ours, theirs) for ours, theirs in pairs},
    }
    judging.hand_over(args.json, result)


if __name__ == "__main__":
    main()
