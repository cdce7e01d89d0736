"""Train the demo model: `python -m training.demo.train --out runs/demo` (resumable; about two hours on two CPU cores)."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from training.demo import loop, tower, words


def main() -> None:
    """Run the stages one after another; each resumes from its last checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--tower-steps", type=int, default=2400)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    args.out.mkdir(parents=True, exist_ok=True)
    vocabulary = words.train()
    vocabulary.save(str(args.out / "tokenizer.json"))
    text = words.wrap(vocabulary, "<s> $A </s>", 48)
    stage = tower.Stage(vocabulary.get_vocab_size())
    loop.run("tower", stage, lambda step: tower.batches(text, step), args.tower_steps, 1.5e-3, args.out)


if __name__ == "__main__":
    main()
