"""Train the demo model: `python -m training.demo.train --out runs/demo` (resumable; about two hours on two CPU cores).

Stage 1 trains the vision tower and its text tower, stage 2 the projector and the LLM behind them; then both are written
as ordinary transformers folders into the package.  `--clip src/herovlm/demo/weights/clip` skips stage 1: it takes the
trained tower from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import CLIPModel

from herovlm.demo import WEIGHTS, scenes
from training.demo import export, llm, loop, packed, tower, words

SEED = 0
LLM_SCENES = scenes.SPLITS["train"].start + 500_000  # stage 2 starts with pictures that stage 1 has not seen
PLACED_SCENES, RELATED_SCENES = LLM_SCENES + 100_000, LLM_SCENES + 150_000
WHOLE_SCENES, RENUMBERED_SCENES = LLM_SCENES + 200_000, LLM_SCENES + 250_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages one after another; each resumes from its last checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="checkpoints and log")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where the trained model is written")
    parser.add_argument("--clip", type=Path, help="folder of a trained CLIP, instead of stage 1")
    parser.add_argument("--tower-steps", type=int, default=1500)
    parser.add_argument("--align-steps", type=int, default=400)
    parser.add_argument("--single-steps", type=int, default=1200)
    parser.add_argument("--placed-steps", type=int, default=400)
    parser.add_argument("--related-steps", type=int, default=500)
    parser.add_argument("--whole-steps", type=int, default=600)
    parser.add_argument("--renumbered-steps", type=int, default=250)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="compile the LLM of stage 2 (needs a C++ compiler)")
    parser.add_argument("--small", action="store_true", help="one narrow layer, few questions: tries the command")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    args.out.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary(args.out / "tokenizer.json", args.clip)
    clip = _tower(vocabulary, args)
    chat = words.wrap(vocabulary, "<s> $A", llm.CONTEXT)
    scale = llm.SMALL if args.small else llm.FULL
    answering = llm.stage(clip, chat, scale).to(args.device)
    if args.compile:
        answering.body = torch.compile(packed.forward, dynamic=False)

    def tiles(step: int) -> Iterator[llm.Batch]:
        return llm.single(chat, step, LLM_SCENES, scale=scale)

    def placed(step: int) -> Iterator[llm.Batch]:
        return llm.single(chat, step, PLACED_SCENES, placed=4, scale=scale)

    def related(step: int) -> Iterator[llm.Batch]:
        return llm.single(chat, step, RELATED_SCENES, placed=3, scale=scale)

    def pictures(step: int) -> Iterator[llm.Batch]:
        return llm.whole(chat, step, WHOLE_SCENES, scale=scale)

    def renumbered(step: int) -> Iterator[llm.Batch]:
        return llm.whole(chat, step, RENUMBERED_SCENES, renumber=True, scale=scale)

    loop.run("align", llm.Alignment(answering), tiles, args.align_steps, 2e-3, args.out)
    loop.run("single", answering, tiles, args.single_steps, 1.5e-3, args.out, horizon=2 * args.single_steps)
    loop.run("placed", answering, placed, args.placed_steps, 1e-3, args.out, horizon=1000)
    loop.run("related", answering, related, args.related_steps, 1e-3, args.out)
    loop.run("whole", answering, pictures, args.whole_steps, 1.2e-3, args.out)
    loop.run("renumbered", answering, renumbered, args.renumbered_steps, 8e-4, args.out, warmup=40)
    export.export(answering.llava.cpu(), clip.cpu(), vocabulary, args.weights)


def _tower(vocabulary: Tokenizer, args: argparse.Namespace) -> CLIPModel:
    """Load the trained CLIP that was given, or run stage 1."""
    if args.clip is not None:
        return CLIPModel.from_pretrained(args.clip, dtype=torch.float32)
    text = words.wrap(vocabulary, "<s> $A </s>", tower.CONTEXT)
    seeing = tower.Stage(vocabulary.get_vocab_size()).to(args.device)
    loop.run("tower", seeing, lambda step: tower.batches(text, step), args.tower_steps, 1.5e-3, args.out)
    return seeing.clip


def _vocabulary(file: Path, clip: Path | None) -> Tokenizer:
    """Train the tokenizer once, or take that of a trained CLIP."""
    if not file.exists():
        (Tokenizer.from_file(str(clip / "tokenizer.json")) if clip else words.train()).save(str(file))
    return Tokenizer.from_file(str(file))


if __name__ == "__main__":
    main()
