"""Try HERO's open parameters on the development split: `python -m training.demo.ablate --out runs/ablation`.

One field is varied at a time around the current defaults; the table tells accuracy by keep.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from rich.progress import track

from herovlm import spec
from herovlm.demo import WEIGHTS, scenes
from training.demo import evaluate

VARIED = {
    "low_layers": ["(0.1,)", "(0.27,)", "(0.36,)", "(0.45,)", "(0.54,)", "(0.64,)", "(0.73,)", "(0.82,)", "(0.95,)"],
    "high_layers": ["(0.27,)", "(0.64,)", "(0.73,)", "(0.82,)", "(1.0,)"],
    "alpha": ["0.0", "0.25", "0.75", "1.0"],
    "t_cls": ["0.02", "0.5"],
    "t_clip": ["0.05", "0.1", "0.2", "0.5"],
    "density": ["0.0", "0.5"],
    "thumbnail": ["0.0", "0.05", "0.1", "0.4"],
    "double_softmax": ["True"],
    "newlines": ["'none'", "'all'"],
}


def main() -> None:
    """Write one JSON line a configuration and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--limit", type=int, default=100, help="scenes of the development split")
    parser.add_argument("--base", default="", help="fields that every configuration shares, for example 'alpha=0.3'")
    parser.add_argument("--first", type=int, default=0, help="how many scenes of the split are left out")
    parser.add_argument("--fields", nargs="*", default=list(VARIED))
    parser.add_argument("--keeps", type=float, nargs="*", default=[0.2, 0.1, 0.05])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    told = [f"hero({args.base})"] + [
        f"hero({', '.join(filter(None, [args.base, f'{field}={value}']))})"
        for field in args.fields
        for value in VARIED[field]
    ]
    configs = [evaluate.Config(spec.parse(one), keep) for one in told for keep in args.keeps]
    model, processor = evaluate.load(args.model)
    right: dict[str, list[bool]] = {}
    for seed in track(list(scenes.SPLITS["development"])[args.first :][: args.limit], description="scenes"):
        for record in evaluate.answers(model, processor, scenes.make(seed), configs):
            right.setdefault(record["config"], []).append(record["right"])
            right.setdefault(f"{record['config']} {record['kind']}", []).append(record["right"])
    args.out.mkdir(parents=True, exist_ok=True)
    table = {name: round(100 * sum(hits) / len(hits), 1) for name, hits in right.items()}
    (args.out / "development.json").write_text(json.dumps({"scenes": args.limit, "accuracy": table}, indent=2) + "\n")
    for one in configs:
        print(f"{one!s:60} {table[str(one)]}")


if __name__ == "__main__":
    main()
