"""Train cross-attention to what was dropped, at keep=0.1: `python -m training.age_vlm.train --out runs/age_vlm`.

Tower, projector and language model stay as they are.  `--memory kept` is the control: the same parts, the same
training, but all they can look up are the tokens that the language model reads anyway.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from herovlm import demo
from herovlm.demo import scenes
from herovlm.modules.cross_attention import CrossAttention, Memory, Shape, even, spots
from training.age_vlm import data
from training.demo import loop, words
from training.demo.data import IGNORE
from training.demo.llm import SHORT

ROWS = 64  # a step
GUIDANCE = 0.1  # weight of the mask's term
PEAK = 1.5e-3
Picture = dict[str, Any]
Row = tuple[Picture, int, int]  # picture, question, method


def batches(pictures: list[Picture], start: int, rows: int = ROWS) -> Iterator[list[Row]]:
    """Endless batches of questions about pictures as one method shortened them, the same in every run from `start`."""
    every = [(p, q, m) for p, one in enumerate(pictures) for q, kept in enumerate(one["kept"]) for m in range(len(kept))]
    step = epoch = 0
    while True:
        order = random.Random(epoch).sample(every, len(every))
        for first in range(0, len(order) - rows + 1, rows):
            if step >= start:
                yield [(pictures[p], q, m) for p, q, m in order[first : first + rows]]
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
    return Prompts(
        pad(embedded, True), pad(real, True), pad(targets, True, padding_value=IGNORE), pad(weights, True)
    )


def remembered(rows: list[Row], which: str) -> tuple[Memory, Tensor]:
    """What each row may look up, and (B, M) float32 which of it belongs to what is asked for, sums 1, or 0: none."""
    found, masks = [], []
    for picture, question, method in rows:
        order, valid = picture["kept"][question][method].long(), picture["valid"].flatten()
        kept = torch.zeros_like(valid).scatter_(0, order[order >= 0], True)
        there = valid & {"dropped": ~kept, "kept": kept, "all": valid}[which]
        at = spots(picture["tiles"], round(picture["valid"].shape[1] ** 0.5)).flatten(0, 1)
        found.append((picture["features"].flatten(0, 1)[there].float(), at[there]))
        items = torch.tensor(picture["asked"][question], dtype=torch.int8)
        masks.append(torch.isin(picture["items"].flatten()[there], items).float())
    mask = nn.utils.rnn.pad_sequence(masks, True)
    return Memory.of(found), mask / mask.sum(1, keepdim=True).clamp(min=1)


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
        (llava,) = self.frozen
        given = prompts(rows, llava.get_input_embeddings(), self.head)
        memory, mask = remembered(rows, self.memory)
        asked, shares = given.targets != IGNORE, []
        with ExitStack() as hooked:
            for layer in self.parts.shape.layers:
                into = llava.model.language_model.layers[layer].register_forward_pre_hook(
                    self._reads(layer, memory, shares)
                )
                hooked.callback(into.remove)
            out = llava.model.language_model(
                inputs_embeds=given.embedded, attention_mask=given.real, use_cache=False
            )
        logits = llava.lm_head(out.last_hidden_state[asked]).float()
        wanted, weight = given.targets[asked], given.weights[asked]
        loss = (F.cross_entropy(logits, wanted, reduction="none") * weight).sum() / weight.sum()
        guide = guidance(shares, asked, mask)
        right = torch.ones_like(asked)
        right[asked] = logits.argmax(-1) == wanted
        return loss + GUIDANCE * guide, scores(right.all(-1), rows) | {"answers": loss.item(), "guide": guide.item()}

    def _reads(self, layer: int, memory: Memory, shares: list[Tensor]) -> Callable[..., Any]:
        part = self.parts.before(layer)

        def hook(module: Any, args: tuple[Any, ...]) -> Any:
            states, share = part(args[0], part.remember(memory))
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


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/age_vlm"), help="where training.age_vlm.data wrote")
    parser.add_argument("--memory", default="dropped", choices=("dropped", "kept", "all"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    pictures = list(data.load(args.out / "seen"))
    model, processor = demo.load()
    stage = Stage(model, processor.tokenizer, args.memory)
    loop.run(
        args.memory,
        stage,
        lambda start: batches(pictures, start, args.rows),
        args.steps,
        PEAK,
        args.out,
        warmup=100,
    )


if __name__ == "__main__":
    main()
