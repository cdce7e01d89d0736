"""What every benchmark says of the machine it ran on, and how it hands its one JSON object over."""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers


def hand_over(target: str, name: str, small: bool, rounds: int, **measured: Any) -> None:
    """Write versions, hardware and what was measured as JSON to a file, or to standard output where it is "-"."""
    record = {
        "benchmark": name,
        "small": small,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        **measured,
    }
    text = json.dumps(record, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        Path(target).write_text(text, "utf-8")


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and both ends."""
    middle, low, high = statistics.median(seconds), min(seconds), max(seconds)
    return {"median_s": round(middle, 6), "min_s": round(low, 6), "max_s": round(high, 6)}


def ratio(seconds: Sequence[float], of: Sequence[float]) -> float:
    """Median over the rounds of one time over the other, so that noise that hits a round hits both."""
    return round(statistics.median(a / b for a, b in zip(seconds, of, strict=True)), 4)
