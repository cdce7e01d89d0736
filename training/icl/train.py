"""Teach a copy of the demo model to answer about drawn figures with examples before: python -m training.icl.train.

Projector and language model learn, the tower stays; prompts are those of `herovlm icl` with 0 to 2 random examples, and
the answers of the examples are learned too.  Run again, it goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from herovlm import demo
from herovlm.demo import figures
from herovlm.eval.icl import compose
from herovlm.prompt.template import interleaved
from training.demo import loop

FIRST = figures.SPLITS["train"][0]
ANSWER = re.compile(r"Answer:(?: ASSISTANT:)?( .*?final answer is (\[[^\]]*\]))", re.DOTALL)
PEAK = 6e-4  # of the learning rate
LABEL = 4.0  # weight of the tokens of labels: few, and what is asked


@dataclass(frozen=True)
class Seen:
    """A figure as the frozen tower sees it, with the red box."""

    states: Tensor  # (T, N, C) bfloat16
    size: tuple[int, int]  # height, width
    rationale: str
    label: str


@dataclass(frozen=True)
class Episode:
    """Examples and the figure that is asked about, with all words."""

    shown: Sequence[Seen]
    ids: Tensor  # (L,), a picture one token
    weights: Tensor  # (L,), 0 where nothing is to be learned


@torch.no_grad()
def look(model: Any, processor: Any, seed: int) -> Seen:
    """Draw a figure and run the tower over it."""
    figure = figures.make(seed)
    boxed = compose.red_box(figure.image, figure.box)
    pixels = processor.image_processor(images=[boxed], return_tensors="pt")["pixel_values"][0]
    seen = model.model.vision_tower(pixel_values=pixels, output_hidden_states=True)
    states = seen.hidden_states[model.config.vision_feature_layer][:, 1:].to(torch.bfloat16)
    return Seen(states, figure.image.size[::-1], figure.rationale, str([figure.feeling]))


def episode(processor: Any, shown: Sequence[Seen]) -> Episode:
    """Write the prompt of `herovlm icl` about the last figure, with its answer, and mark what is learned."""
    examples = [compose.Example(one.rationale, one.label) for one in shown[:-1]]
    text = interleaved(processor, compose.parts(figures.FEELINGS, examples))
    text += f" {shown[-1].rationale}\n The final answer is {shown[-1].label}"
    read = processor.tokenizer(text, return_offsets_mapping=True)
    weights = torch.zeros(len(read["input_ids"]) + 1)
    starts = torch.tensor([start for start, _ in read["offset_mapping"]])
    found = list(ANSWER.finditer(text))
    if not examples:  # nothing stands behind the request then
        found = list(re.finditer(r"ASSISTANT:( .*?final answer is (\[[^\]]*\]))", text, re.DOTALL))
    for one in found:
        for group, weight in ((1, 1.0), (2, LABEL)):
            inside = (starts >= one.start(group)) & (starts < one.end(group))
            weights[:-1][inside] = weight
    weights[-1] = 1.0
    ids = torch.tensor([*read["input_ids"], processor.tokenizer.eos_token_id])
    return Episode(shown, ids, weights)


def episodes(processor: Any, known: Sequence[Seen], first: int, size: int) -> Iterator[list[Episode]]:
    """Endless steps from step `first` on."""
    step = first
    while True:
        rng = random.Random(step)
        yield [episode(processor, rng.sample(known, 1 + rng.randrange(3))) for _ in range(size)]
        step += 1


class Stage(nn.Module):
    """Projector and language model on what the frozen tower saw."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.llava = model
        model.model.vision_tower.requires_grad_(False)

    def forward(self, batch: list[Episode]) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a step, and how often the label of the figure that is asked about is right."""
        found = [self._one(one) for one in batch]
        return torch.stack([loss for loss, _ in found]).mean(), {"right": sum(r for _, r in found) / len(found)}

    def _one(self, one: Episode) -> tuple[Tensor, float]:
        core = self.llava.model
        patches = [core.multi_modal_projector(seen.states.float()) for seen in one.shown]
        sizes = torch.tensor([seen.size for seen in one.shown])
        how = {"vision_feature_select_strategy": "default", "image_newline": core.image_newline}
        packed, _ = core.pack_image_features(patches, sizes, **how)
        words = self.llava.get_input_embeddings()(one.ids)
        places = (one.ids == self.llava.config.image_token_id).nonzero()[:, 0].tolist()
        pieces, wanted, weights, last = [], [], [], 0
        for place, image in zip(places, packed, strict=True):
            pieces += [words[last:place], image.to(words.dtype)]
            wanted += [one.ids[last:place], one.ids.new_zeros(len(image))]
            weights += [one.weights[last:place], one.weights.new_zeros(len(image))]
            last = place + 1
        rows = torch.cat([*pieces, words[last:]])[None]
        target, weight = torch.cat([*wanted, one.ids[last:]])[1:], torch.cat([*weights, one.weights[last:]])[1:]
        states = core.language_model(inputs_embeds=rows, use_cache=False).last_hidden_state[0, :-1]
        asked = weight > 0
        logits = self.llava.lm_head(states[asked]).float()
        losses = F.cross_entropy(logits, target[asked], reduction="none")
        hits = (logits.argmax(-1) == target[asked])[:-1]
        label = hits[(weight[asked][:-1] == LABEL).cumsum(0) > (weight[asked][:-1] == LABEL).sum() - self._length(one)]
        return (losses * weight[asked]).sum() / weight.sum(), float(label.all())

    def _length(self, one: Episode) -> int:
        """Tokens of the last label."""
        behind = one.weights[:-1].flip(0)
        return int((behind == LABEL).long().cumprod(0).sum())


def main(arguments: Sequence[str] | None = None) -> None:
    """Look at the figures, train, and save a folder for `--model`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/icl-model"), help="checkpoints, log and the model")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--figures", type=int, default=500)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model, processor = demo.load()
    args.out.mkdir(parents=True, exist_ok=True)
    cache = args.out / f"seen-{args.figures}.pt"
    if not cache.exists():
        torch.save([look(model, processor, FIRST + i).__dict__ for i in range(args.figures)], cache)
    known = [Seen(**one) for one in torch.load(cache, weights_only=True)]
    stage = Stage(model)
    loop.run(
        "icl", stage, lambda step: episodes(processor, known, step, args.batch), args.steps, 6e-4, args.out, warmup=40
    )
    save(model, args.out / "model")


def train(stage: Stage, batches: Callable[[int], Iterator[list[Episode]]], steps: int, out: Path) -> None:
    """Train in float32 by AdamW, from the last checkpoint on, and log every 25 steps."""
    weights = [weight for weight in stage.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=PEAK, betas=(0.9, 0.97), weight_decay=0.01, fused=True)
    start, spent, last = 0, 0.0, out / "last.pt"
    if last.exists():
        state = torch.load(last, weights_only=True)
        stage.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        start, spent = state["step"], state["seconds"]
    began, mean = time.time() - spent, {}
    for step, batch in zip(range(start, steps), batches(start), strict=False):
        for group in optimiser.param_groups:
            group["lr"] = loop.rate(step, steps, PEAK, 30)
        loss, seen = stage(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        for key, value in (seen | {"loss": loss.item()}).items():
            mean[key] = 0.95 * mean.get(key, value) + 0.05 * value
        if step % 25 == 24 or step + 1 == steps:
            line = {
                "step": step + 1,
                "of": steps,
                "minutes": round((time.time() - began) / 60, 2),
                "cpu": round(time.process_time()),
            }
            line |= {key: round(value, 4) for key, value in mean.items()}
            print(json.dumps(line), flush=True)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            state = {"model": stage.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            torch.save({**state, "seconds": time.time() - began}, out / "new.pt")
            (out / "new.pt").rename(last)


def save(model: Any, folder: Path) -> None:
    """Write the model beside the demo model's own processor and CLIP."""
    import shutil

    shutil.copytree(demo.WEIGHTS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md", "herovlm-*"))
    model.to(torch.bfloat16).save_pretrained(folder)


if __name__ == "__main__":
    main()
