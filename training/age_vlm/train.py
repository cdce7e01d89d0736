"""Train cross-attention to what was dropped, at keep=0.1: `python -m training.age_vlm.train --out runs/age_vlm`.

Tower, projector and language model stay as they are.  `--memory kept` is the control: the same parts, the same
training, but all they can look up are the tokens that the language model reads anyway.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from herovlm import demo
from herovlm.demo import scenes
from herovlm.modules.cross_attention import (
    CrossAttention,
    GatedCrossAttention,
    Memory,
    Remembered,
    Shape,
    even,
    spots,
)
from training.age_vlm import data
from training.demo import loop, words
from training.demo.data import IGNORE
from training.demo.llm import SHORT

PICTURES, ROWS = 4, 8  # a step; questions about each
GUIDANCE = 0.1  # weight of the mask's term
PEAK = 1.5e-3
Picture = dict[str, Any]
Row = tuple[Picture, int, int]  # picture, question, method


def batches(pictures: list[Picture], start: int, each: int = PICTURES, rows: int = ROWS) -> Iterator[list[Row]]:
    """Endless batches, the same in every run from `start`: some questions about each of some pictures, side by side."""
    if len(pictures) < each:
        raise SystemExit(f"{len(pictures)} pictures were looked at, {each} are a step; run training.age_vlm.data first")
    step = epoch = 0
    while True:
        order = random.Random(epoch).sample(pictures, len(pictures))
        for first in range(0, len(order) - each + 1, each):
            if step >= start:
                rng, batch = random.Random(step), []
                for picture in order[first : first + each]:
                    every = [(picture, q, m) for q, kept in enumerate(picture["kept"]) for m in range(len(kept))]
                    batch += rng.sample(every, min(rows, len(every)))
                yield batch
            step += 1
        epoch += 1


@dataclass
class Prompts:
    """Rows as the language model reads them, padded on the right: L tokens."""

    embedded: Tensor  # (B, L, D)
    real: Tensor  # (B, L) int64
    targets: Tensor  # (B, L): the token that comes next, IGNORE where it is no answer
    weights: Tensor  # (B, L)


def prompts(rows: list[Row], embed: Callable[[Tensor], Tensor], head: Tensor) -> Prompts:
    """Put head, what was kept of the picture, question and answer behind each other."""
    embedded, targets, weights = [], [], []
    for picture, question, method in rows:
        order, ids = picture["kept"][question][method].long(), torch.tensor(picture["ids"][question])
        features = picture["features"].flatten(0, 1)[order]  # a newline is negative: some patch, which is replaced
        features = torch.where(order.lt(0)[:, None], picture["newline"], features).float()
        embedded.append(torch.cat([embed(head), features, embed(ids)]))
        start = len(head) + len(order) + picture["start"][question]  # where the answer begins
        target = torch.full((len(embedded[-1]),), IGNORE)
        target[start - 1 : -1] = ids[picture["start"][question] :]
        targets.append(target)
        weights.append(torch.full((len(target),), SHORT if len(ids) - picture["start"][question] <= 3 else 1.0))
    real = [torch.ones(len(row), dtype=torch.long) for row in embedded]
    pad = nn.utils.rnn.pad_sequence
    return Prompts(pad(embedded, True), pad(real, True), pad(targets, True, padding_value=IGNORE), pad(weights, True))


@dataclass
class Lookup:
    """What rows may look up: the memory of each picture, once, and which of it each row has."""

    memory: Memory  # of P pictures, M tokens
    picture: Tensor  # (B,) int64
    real: Tensor  # (B, M) bool
    mask: Tensor  # (B, M) float32: what belongs to what is asked for, sum 1, or 0 where nothing does

    def known(self, part: GatedCrossAttention) -> Remembered:
        """Keys and values of every row, projected once a picture."""
        keys, values, _ = part.remember(self.memory)
        return Remembered(keys[self.picture], values[self.picture], self.real)


def lookup(rows: list[Row], which: str) -> Lookup:
    """Find what rows may look up."""
    pictures = list({id(picture): picture for picture, _, _ in rows}.values())
    number = {id(picture): i for i, picture in enumerate(pictures)}
    found, real, masks = [], [], []
    for picture in pictures:
        at = spots(picture["tiles"], round(picture["valid"].shape[1] ** 0.5)).flatten(0, 1)
        found.append((picture["features"].flatten(0, 1).float(), at))
    for picture, question, method in rows:
        order, valid = picture["kept"][question][method].long(), picture["valid"].flatten()
        kept = torch.zeros_like(valid).index_fill_(0, order[order >= 0], True)
        real.append({"dropped": valid & ~kept, "kept": valid & kept, "all": valid}[which])
        items = torch.tensor(picture["asked"][question], dtype=torch.int8)
        masks.append((torch.isin(picture["items"].flatten(), items) & real[-1]).float())
    real_, mask = (nn.utils.rnn.pad_sequence(part, True) for part in (real, masks))
    mask = mask / mask.sum(1, keepdim=True).clamp(min=1)
    return Lookup(Memory.of(found), torch.tensor([number[id(picture)] for picture, _, _ in rows]), real_, mask)


def guidance(shares: list[Tensor], asked: Tensor, mask: Tensor) -> Tensor:
    """KL of mask and attention but for a constant: mean over layers and answer tokens whose object is in the memory.

    shares (B, H, L, M) of each layer, asked (B, L) bool, mask (B, M).
    """
    rows, at = (asked & (mask.sum(1) > 0)[:, None]).nonzero().unbind(1)
    if not len(rows):
        return shares[0].sum() * 0
    logs = [(share[rows, :, at].mean(1) + 1e-6).log() for share in shares]  # (tokens, M)
    return -torch.stack([(mask[rows] * log).sum(1).mean() for log in logs]).mean()


class Stage(nn.Module):
    """All that is trained: the parts.  The model that they stand in is no part of this module."""

    def __init__(self, llava: Any, tokenizer: Any, memory: str, shape: Shape | None = None) -> None:
        super().__init__()
        text = llava.config.text_config
        self.parts = CrossAttention(shape or Shape(text.hidden_size, even(text.num_hidden_layers)))
        self.frozen = [llava.requires_grad_(False)]  # in a list it is not registered
        self.memory = memory
        self.head = torch.tensor([words.BOS, *tokenizer("USER: ", add_special_tokens=False).input_ids])

    def forward(self, rows: list[Row]) -> tuple[Tensor, dict[str, float]]:
        """One step's loss over answer tokens, and the share of answers that are right."""
        given, found = prompts(rows, self.frozen[0].get_input_embeddings(), self.head), lookup(rows, self.memory)
        shares: list[Tensor] = []
        asked = given.targets != IGNORE
        logits = self.frozen[0].lm_head(self._states(given, found, shares)[asked]).float()
        wanted, weight = given.targets[asked], given.weights[asked]
        loss = (F.cross_entropy(logits, wanted, reduction="none") * weight).sum() / weight.sum()
        guide = guidance(shares, asked, found.mask)
        right = torch.ones_like(asked)
        right[asked] = logits.argmax(-1) == wanted
        return loss + GUIDANCE * guide, scores(right.all(-1), rows) | {"answers": loss.item(), "guide": guide.item()}

    def read(self, rows: list[Row]) -> Tensor:
        """Logits behind every token, (B, L, vocabulary)."""
        given = prompts(rows, self.frozen[0].get_input_embeddings(), self.head)
        logits: Tensor = self.frozen[0].lm_head(self._states(given, lookup(rows, self.memory), []))
        return logits

    def _states(self, given: Prompts, found: Lookup, shares: list[Tensor]) -> Tensor:
        """Last states (B, L, D); the shares of each part are put behind `shares`."""
        language = self.frozen[0].model.language_model
        with ExitStack() as hooked:
            for layer in self.parts.shape.layers:
                into = language.layers[layer].register_forward_pre_hook(self._reads(layer, found, shares))
                hooked.callback(into.remove)
            out = language(inputs_embeds=given.embedded, attention_mask=given.real, use_cache=False)
        states: Tensor = out.last_hidden_state
        return states

    def _reads(self, layer: int, found: Lookup, shares: list[Tensor]) -> Callable[..., Any]:
        part = self.parts.before(layer)

        def hook(module: Any, args: tuple[Any, ...]) -> Any:
            states, share = part(args[0], found.known(part))
            shares.append(share)
            return (states, *args[1:])

        return hook


def scores(right: Tensor, rows: list[Row]) -> dict[str, float]:
    """Share of answers right in every token, (B,) -> by kind of question."""
    kinds = [picture["kind"][question] for picture, question, _ in rows]
    found = right.tolist()
    return {
        kind: sum(hit for hit, own in zip(found, kinds, strict=True) if own == kind) / max(1, kinds.count(kind))
        for kind in scenes.QUESTION_KINDS
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/age_vlm"), help="where training.age_vlm.data wrote")
    parser.add_argument("--memory", default="dropped", choices=("dropped", "kept", "all"))
    parser.add_argument("--steps", type=int, default=220)
    parser.add_argument("--horizon", type=int, help="the rate falls as if there were so many steps; --steps")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    pictures = list(data.load(args.out / "seen"))
    model, processor = demo.load()
    stage = Stage(model, processor.tokenizer, args.memory)
    how = {"horizon": args.horizon, "warmup": 50, "half": model.device.type == "cuda", "save": 50}
    loop.run(args.memory, stage, lambda start: batches(pictures, start), args.steps, PEAK, args.out, **how)


if __name__ == "__main__":
    main()
