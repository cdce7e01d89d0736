"""Exact match on scenes never trained on: `python -m training.demo.evaluate --out runs/eval` (resumable).

One look of the tower a scene serves every method; each method then answers all questions of the scene in one batch.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.progress import track

from herovlm import dropping, registry, spec
from herovlm.adapters import relevance
from herovlm.demo import WEIGHTS, scenes
from herovlm.errors import BudgetError
from herovlm.methods.base import Method
from herovlm.methods.inside.base import Chain
from herovlm.types import Needs, Relevance, budget_of

KEEPS = (0.4, 0.2, 0.1, 0.05)
INSIDE = ("fastv", "pyramiddrop", "sparsevlm", "hero + fastv", "vitcop + vitcop_llm", "todre + todre_llm")
CONFIGS = ["full@1.0", "thumbnail@64", "hero@0.2:original"]
CONFIGS += [f"{name}@{keep}" for keep in KEEPS for name in ("hero", "random")]


def load(folder: Path) -> tuple[Any, Any]:
    """The model in float32 and its processor."""
    from transformers import AutoProcessor, LlavaNextForConditionalGeneration

    model = LlavaNextForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(folder)


def union(needs: list[Needs]) -> Needs:
    """What all methods together want recorded."""
    layers = tuple(sorted({layer for need in needs for layer in need.attention}))
    relevant = next((need.relevance for need in needs if need.relevance), None)
    return Needs(
        layers,
        any(need.cls for need in needs),
        relevant,
        any(need.affinity for need in needs),
        tuple(sorted({block for need in needs for block in need.keys})),
        tuple(sorted({block for need in needs for block in need.received})),
        any(need.hidden for need in needs),
    )


class Config(NamedTuple):
    """A method, what it keeps, and whether kept positions keep their numbers."""

    method: Method | Chain
    keep: float | int
    original: bool = False

    def __str__(self) -> str:
        return f"{self.method}@{self.keep}{':original' * self.original}"


def config(told: str) -> Config:
    """Read "hero@0.2" (a share), "thumbnail@64" (a number of positions), "hero@0.2:original" (numbers kept)."""
    name, _, amount = told.rpartition("@")
    keep, _, numbers = amount.partition(":")
    return Config(spec.parse(name), int(keep) if keep.isdigit() else float(keep), numbers == "original")


@torch.no_grad()
def answers(model: Any, processor: Any, scene: scenes.Scene, configs: Sequence[Config]) -> Iterator[dict[str, Any]]:
    """Answer every question of a scene under every configuration; one that cannot keep so little is left out."""
    asked = [q.text for q in scene.questions]
    turns = [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}] for text in asked]
    prompts = [processor.apply_chat_template(turn, add_generation_prompt=True) for turn in turns]
    processor.tokenizer.padding_side = "left"
    inputs = processor(images=[[scene.image]] * len(asked), text=prompts, return_tensors="pt", padding=True)
    before = [one for one in configs if isinstance(one.method, Method)]
    found = [early(model, inputs, asked, before)] if before else []
    found += [inside(model, inputs, asked, one) for one in configs if isinstance(one.method, Chain)]
    for one, new, positions, of in itertools.chain(*found):
        for question, answer, n in zip(scene.questions, processor.batch_decode(new), positions, strict=True):
            told = answer.split("</s>")[0].strip()
            yield {
                "scene": scene.seed,
                "config": str(one),
                "kind": question.kind,
                "picture": scene.kind,
                "right": told == question.answer,
                "answer": told,
                "want": question.answer,
                "positions": n,
                "of": of,
            }


Answered = Iterator[tuple[Config, torch.Tensor, list[float], int]]  # what, new tokens, positions, of how many


def early(model: Any, inputs: Mapping[str, Any], asked: list[str], configs: Sequence[Config]) -> Answered:
    """Answer by methods before the LLM: one look for all of them, prompts of about one length in one batch."""
    adapter = registry.adapter(model)
    needs = union([one.method.needs(adapter.depth(model)) for one in configs])

    def score(kind: Relevance, looked_at: torch.Tensor, rows: list[int]) -> torch.Tensor:
        return relevance.score(model, kind, asked, looked_at, rows)

    seen = adapter.see(model, inputs, needs, score)
    for (keep, original), together in itertools.groupby(sorted(configs, key=_alike), key=_alike):
        share, kept = keep if isinstance(keep, float) else None, {}
        for one in together:
            with suppress(BudgetError):
                kept[one] = [one.method.keep(s, budget_of(keep, s.positions), share=share) for s in seen]
        rows = {name: value.repeat(len(kept), *[1] * (value.ndim - 1)) for name, value in inputs.items()}
        every = [k for several in kept.values() for k in several]
        short = adapter.rebuild(model, rows, seen * len(kept), every, original=original)
        out = model.generate(**short, max_new_tokens=6, do_sample=False)[:, short["input_ids"].shape[1] :]
        for (one, several), new in zip(kept.items(), out.split(len(asked)), strict=True):
            yield one, new, [k.positions for k in several], seen[0].positions


def _alike(one: Config) -> tuple[float | int, bool]:
    return one.keep, one.original


def inside(model: Any, inputs: Mapping[str, Any], asked: list[str], one: Config) -> Answered:
    """Answer by a method that goes on inside the LLM; its positions are the mean over the layers."""
    with dropping(model, method=one.method, keep=one.keep, question=asked) as record, suppress(BudgetError):
        out = model.generate(**inputs, max_new_tokens=6, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        of = record.last.seen[0].positions if record.last else 0
        yield one, out, [round(k.mean, 1) for k in record.inside], of


def main() -> None:
    """Write one line a question and configuration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument("--out", type=Path, default=Path("runs/eval"))
    parser.add_argument("--split", choices=list(scenes.SPLITS), default="held-out")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--part", default="0/1", help="this process's share of the scenes, for example 0/2")
    parser.add_argument("--configs", nargs="*", default=CONFIGS, help="METHOD@KEEP or METHOD@KEEP:original")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--all", action="store_true", help="every method of the registry at every keep")
    args = parser.parse_args()
    if args.all:
        names = [*registry.METHODS, *INSIDE]
        args.configs = ["full@1.0"] + [f"{name}@{keep}" for keep in KEEPS for name in names if name != "full"]
    torch.set_num_threads(args.threads)
    part, parts = map(int, args.part.split("/"))
    seeds = list(scenes.SPLITS[args.split])[: args.limit][part::parts]
    args.out.mkdir(parents=True, exist_ok=True)
    records = args.out / f"{args.split}-{part}-of-{parts}.jsonl"
    done = {json.loads(line)["scene"] for line in records.open()} if records.exists() else set()
    configs = [config(told) for told in args.configs]
    model, processor = load(args.model)
    for seed in track([s for s in seeds if s not in done], description="scenes"):
        lines = [json.dumps(record) for record in answers(model, processor, scenes.make(seed), configs)]
        with records.open("a") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
