"""What every benchmark has: options, a model of real shape, and one JSON object that says what it was measured on."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from herovlm import api
from herovlm.clock import Clock
from herovlm.cost import configs, memory, shapes
from herovlm.cost.clock import Samples, ratio, spread
from herovlm.viz import page

KEEPS = (1.0, 0.4, 0.2, 0.1, 0.05)
LAYERS = 4  # of the LLM, on a CPU
Measure = Callable[[argparse.Namespace], dict[str, Any] | Iterator[dict[str, Any]]]


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The description as it stands, and defaults beside the options."""


def main(
    doc: str,
    name: str,
    measure: Measure,
    rounds: int,
    device: str = "cpu",
    processor: bool = False,
    **more: Mapping[str, Any],
) -> None:
    """Read the options, measure, and write one JSON object, anew as often as there is more of it.

    `more` are options of this benchmark alone; `processor` is whether --small takes the processor's time.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=_Help)
    parser.add_argument("--small", action="store_true", help="few channels, layers and rounds: a minute or two")
    parser.add_argument("--rounds", type=int, help=f"rounds that count; {rounds}, with --small 2")
    parser.add_argument("--shape", help="shape of the model; llava-next-7b, with --small small")
    parser.add_argument("--llm-layers", type=int, help=f"layers of the LLM; {LAYERS} on a CPU, all on a GPU")
    parser.add_argument("--dtype", help="of the model; bfloat16, with --small float32")
    parser.add_argument("--attention", default="sdpa", help="its name in transformers")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--device", default=device, help="cpu or cuda")
    parser.add_argument("--processor", action="store_true", help="one CPU thread, and its time instead of the wall's")
    parser.add_argument("--json", default="-", help="file to write, or - for standard output")
    for option, how in more.items():
        parser.add_argument(f"--{option}", **how)
    args = parser.parse_args()
    if args.processor or (processor and args.small and args.device == "cpu"):
        args.processor, args.threads, Clock.tick = True, 1, "process_time"
    if args.threads:
        torch.set_num_threads(args.threads)
    args.rounds = args.rounds or (2 if args.small else rounds)
    args.dtype = args.dtype or ("float32" if args.small else "bfloat16")
    args.shape = args.shape or ("small" if args.small else "llava-next-7b")
    if args.llm_layers is None and args.device == "cpu":
        args.llm_layers = min(LAYERS, configs.config_of(args.shape).text_config.num_hidden_layers)
    measured = measure(args)
    last: dict[str, Any] = {}
    for last in [measured] if isinstance(measured, dict) else measured:
        if args.json != "-":
            hand_over(args, name, last)
    if args.json == "-":
        hand_over(args, name, last)


def hand_over(args: argparse.Namespace, name: str, measured: Mapping[str, Any]) -> None:
    """Write versions, hardware and what was measured."""
    device = torch.device(args.device)
    record = {
        "benchmark": name,
        **{key: getattr(args, key) for key in ("small", "rounds", "shape", "llm_layers", "dtype", "attention")},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "machine": platform.machine(),
        "clock": "CUDA events" if device.type == "cuda" else "processor" if args.processor else "wall",
        "threads": torch.get_num_threads(),
        "memory": memory.kind(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        **measured,
    }
    put(args.json, record)


def put(where: str, record: Mapping[str, Any]) -> None:
    """Write a record into a file, or to standard output where that is "-"."""
    text = json.dumps(record, indent=2) + "\n"
    if where == "-":
        sys.stdout.write(text)
    else:
        page.put(Path(where), text.encode())


def model(args: argparse.Namespace, **changes: Any) -> Any:
    """Make the model that the options name."""
    given = {"llm_layers": args.llm_layers, "dtype": getattr(torch, args.dtype)} | changes
    return shapes.build(args.shape, device=args.device, attention=args.attention, **given)


def asked(method: str, keep: float) -> api.Request:
    """Check a method and a keep, with a question to score."""
    return api.Request.of(method, keep=keep, question=shapes.QUESTION)


def spreads(samples: Mapping[str, Samples]) -> dict[str, dict[str, dict[str, float]]]:
    """Median and both ends of everything that was measured."""
    return {name: {what: spread(values) for what, values in of.items()} for name, of in samples.items()}


def ratios(samples: Mapping[str, Samples], what: str, of: str) -> dict[str, float]:
    """One number of every way over that of another way, round by round."""
    return {name: ratio(each[what], samples[of][what]) for name, each in samples.items()}
