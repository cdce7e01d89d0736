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
from herovlm.eval.answer import Reader, Row, short_of
from herovlm.eval.likelihood import answer_ids, forced
from herovlm.eval.plan import FULL, config
from herovlm.modules import stored
from herovlm.modules.cross_attention import CrossAttention
from herovlm.modules.recall import Recall

METHODS, KEEPS = ("hero", "hero_plus"), (0.1, 0.05)
WAYS = ("plain", "control", "memory")
KINDS = ("all", *scenes.QUESTION_KINDS)


def judged(reader: Reader, parts: Mapping[str, CrossAttention], seed: int) -> Line:
    """Judge a scene in every way."""
    scene = scenes.make(seed)
    texts = [one.text for one in scene.questions]
    names = [FULL, *(f"{method}@{keep}" for method in METHODS for keep in KEEPS)]
    sheet = reader.sheet(scene.image, texts, [config(name) for name in names])
    wanted = [answer_ids(reader, one.text, one.answer) for one in scene.questions]
    line: Line = {"scene": seed, "kinds": [one.kind for one in scene.questions], "judged": {}}
    for name in names:
        rows = sorted((row for row in sheet.rows if str(row.config) == name), key=lambda row: row.question)
        for way in ("plain",) if name == FULL else WAYS:
            line["judged"][f"{name} {way}"] = read(
                reader, rows, wanted, parts.get(way), "kept" if way == "control" else "dropped"
            )
    return line


def read(
    reader: Reader, rows: Sequence[Row], wanted: Sequence[Sequence[int]], parts: CrossAttention | None, memory: str
) -> dict[str, Any]:
    """Judge the answers of some rows: right or not, positions read, tokens in the memory, seconds of the processor."""
    short = short_of(rows)
    end = reader.processor.tokenizer.eos_token_id
    began, tokens = time.process_time(), [0] * len(rows)
    recall = None if parts is None else Recall(reader.model, parts, memory)
    if recall is not None and (order := recall.prepare(short, again=True)) is not None:
        tokens = order.tokens
    with nullcontext() if recall is None else recall.installed():
        right, log = forced(reader.model, short, wanted, end)
    return {
        "right": right.long().tolist(),
        "log": [round(value, 4) for value in log.tolist()],
        "positions": [row.positions[0] for row in rows],
        "tokens": tokens,
        "seconds": round(time.process_time() - began, 4),
    }


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
    reader = Reader(*demo.load(), max_new_tokens=8)
    found = {
        way: stored.load(stored.folder_of(name)) for way, name in (("memory", args.memory), ("control", args.control))
    }
    parts = {way: one.parts for way, one in found.items()}
    seeds = scenes.SPLITS["held-out"][: 2 if args.small else args.scenes]
    lines = judging.judged(args.records / "held-out.jsonl", seeds, "held-out", lambda seed: judged(reader, parts, seed))
    names = list(lines[0]["judged"])
    pairs = [
        (f"{m}@{k} {a}", f"{m}@{k} {b}")
        for m in METHODS
        for k in KEEPS
        for a, b in (WAYS[::-2], WAYS[:0:-1], WAYS[1::-1])
    ]
    result = {
        "benchmark": "age_vlm",
        "command": "python benchmarks/age_vlm.py --control runs/age_vlm/control --json benchmarks/results/age_vlm.json",
        "small": args.small,
        "scenes": len(lines),
        "questions": sum(len(line["kinds"]) for line in lines),
        "machine": f"{platform.machine()}, one thread",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trained": {way: dict(one.trained) for way, one in found.items()},
        "bytes": bytes_of(parts["memory"], reader.model.config),
        "results": {name: summary(lines, name) for name in names},
        "differences": {f"{ours} - {theirs.split()[-1]}": between(lines, ours, theirs) for ours, theirs in pairs},
    }
    judging.hand_over(args.json, result)


if __name__ == "__main__":
    main()
