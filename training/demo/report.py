"""Turn evaluation records into one committed result file: `python -m training.demo.report runs/eval --json FILE`."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from herovlm.demo.scenes import QUESTION_KINDS

RESAMPLES = 2000


def interval(by_scene: np.ndarray) -> list[float]:
    """95 % bootstrap interval over scenes (questions of a scene are not independent), in percent."""
    rng = np.random.default_rng(0)
    drawn = by_scene[rng.integers(0, len(by_scene), (RESAMPLES, len(by_scene)))]  # (resamples, scenes, right and asked)
    share = drawn[..., 0].sum(1) / drawn[..., 1].sum(1)
    return [round(100 * float(q), 1) for q in np.quantile(share, [0.025, 0.975])]


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy of one configuration, in percent: overall with interval, and by question kind."""
    scenes: dict[int, list[int]] = {}
    for record in records:
        counts = scenes.setdefault(record["scene"], [0, 0])
        counts[0] += record["right"]
        counts[1] += 1
    kinds = {kind: [r["right"] for r in records if r["kind"] == kind] for kind in QUESTION_KINDS}
    return {
        "accuracy": round(100 * sum(r["right"] for r in records) / len(records), 1),
        "interval95": interval(np.array(list(scenes.values()))),
        **{kind: round(100 * sum(right) / len(right), 1) for kind, right in kinds.items() if right},
        "mean_positions": round(sum(r["positions"] for r in records) / len(records), 1),
        "scenes": len(scenes),
        "questions": len(records),
    }


def main() -> None:
    """Read all records of a folder and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path)
    parser.add_argument("--split", default="held-out")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    records = [json.loads(line) for file in sorted(args.records.glob(f"{args.split}-*.jsonl")) for line in file.open()]
    configs: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        configs.setdefault(record["config"], []).append(record)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    result = {
        "benchmark": "demo_accuracy",
        "split": args.split,
        "metric": "exact match, percent",
        "commit": commit.strip(),
        "mean_positions_full": round(sum(r["of"] for r in records) / len(records), 1),
        "machine": f"{platform.machine()}, CPU, float32",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "configs": {name: summary(of) for name, of in configs.items()},
    }
    args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
