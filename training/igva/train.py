"""Train IGVA on the demo model: `python -m training.igva.train --out runs/igva` (resumable; 40 minutes on one core).

`plain` trains the projector alone, `fused` the widened projector and the aggregator, in as many steps on the same
questions: fusion has to be compared with the first, not with the model as it came.  Tower and language model stay as
they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from herovlm import demo
from herovlm.towers import relevance
from training.demo import loop
from training.igva import export, stage

SEED = 0
KINDS = ("plain", "fused")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both, one after the other; each resumes from its last checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/igva"), help="checkpoints, log, and the two folders")
    parser.add_argument("--steps", type=int, default=200, help="of each of the two")
    parser.add_argument("--peak", type=float, default=6e-4, help="highest learning rate")
    parser.add_argument("--pictures", type=int, default=stage.PICTURES, help="a step")
    parser.add_argument("--only", choices=KINDS, help="one of the two")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    for kind in KINDS if args.only is None else (args.only,):
        torch.manual_seed(SEED)
        model, processor = demo.load()
        trained: stage.Plain | stage.Fused
        if kind == "plain":
            trained = stage.Plain(model, processor)
        else:
            (sentence,) = relevance.sentences(model, ["Is it there?"], model.device)
            trained = stage.Fused(model, processor, len(sentence))
        batches = partial(stage.batches, pictures=args.pictures)
        how = {"out": args.out, "warmup": min(30, args.steps // 4), "half": False, "save": 50}
        slow = args.steps * 3 // 4  # so long the rate falls as if there were twice as many, and then quickly
        loop.run(kind, trained, batches, slow, args.peak, horizon=2 * slow, **how)
        loop.run(kind, trained, batches, args.steps, args.peak, **how)
        if isinstance(trained, stage.Fused):
            told = f"training/igva: {args.steps} steps, seed {SEED}, scenes from seed {stage.SCENES:,} on"
            export.export(trained.fusion, args.out / "igva", told)
        else:
            export.put(args.out / "projector.safetensors", model.model.multi_modal_projector)


if __name__ == "__main__":
    main()
