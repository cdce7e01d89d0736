"""Teach the demo model to say where to look: `python -m training.chain_of_spot.train --out runs/spot` (resumable).

LoRA on the language model; tower and projector stay as they are, so every scene is looked at once.
"""

from __future__ import annotations

import argparse
import json
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor, nn

from herovlm import demo
from herovlm.ops import region
from herovlm.prompt.template import chat
from herovlm.strategies import turns
from training.chain_of_spot import data
from training.demo import loop, packed, words

NAME = "chain_of_spot"
LORA = LoraConfig(r=24, lora_alpha=48, target_modules=r".*language_model\.layers\..*_proj")
BOXES, PLACES = 12, 12  # questions behind one picture
SAYS = 10  # weight of the two digits of a box that say where, among some 26 tokens: the first decimals of left and top


class Stage(nn.Module):
    """The adapter, and the loss over what it is taught to write."""

    def __init__(self, model: Any, processor: Any) -> None:
        super().__init__()
        model.requires_grad_(False)
        inject_adapter_in_model(LORA, model, NAME)
        self.llava, self.processor = model, processor

    def forward(self, batch: tuple[data.Kind, list[data.Spot], Any]) -> tuple[Tensor, dict[str, float]]:
        """One step's loss over answers, and the share of answers that are right in every token."""
        kind, spots, rng = batch
        told = [getattr(self, kind)(spot, rng) for spot in spots]
        embed, shared = (
            self.llava.get_input_embeddings(),
            commonly([ids[: start - 1] for row in told for ids, start, _ in row]),
        )
        head, tail = (embed(torch.tensor(ids)) for ids in (self.split([[None, "x"]])[0], told[0][0][0][:shared]))
        shown = [spot.kept if kind == "answers" else spot.picture for spot in spots]
        pictures = [torch.cat([head, one.to(head.dtype), tail]) for one in shown]
        lengths = torch.tensor([len(one) for one in pictures])
        prefix = nn.utils.rnn.pad_sequence(pictures, batch_first=True)
        known = torch.arange(prefix.shape[1]) < lengths[:, None]
        many, long = len(told[0]), max(len(ids) for row in told for ids, _, _ in row) - shared
        branches = prefix.new_zeros(len(told), many, long, prefix.shape[2])
        targets = torch.full((len(told), many, long), -100)
        weights = torch.ones(targets.shape)
        for row, several in enumerate(told):
            for number, (ids, start, crop) in enumerate(several):
                one = torch.tensor(ids[shared:])
                branches[row, number, : len(one)] = embed(one.clamp(min=0))
                branches[row, number, : len(one)][one == -1] = crop.to(branches.dtype)
                targets[row, number, start - shared - 1 : len(one) - 1] = one[start - shared :]
                if kind == "boxes":
                    weights[row, number, [start - shared - 1 + i for i in self.saying(ids[start:])]] = SAYS
        before = torch.arange(prefix.shape[1]).expand(len(told), -1)
        places = lengths[:, None] + torch.arange(long)
        out = packed.forward(self.llava.model.language_model, prefix, branches, known, before, places)
        asked = targets != -100
        logits = self.llava.lm_head(out[asked]).float()
        right = torch.ones_like(asked)
        right[asked] = logits.argmax(-1) == targets[asked]
        losses = F.cross_entropy(logits, targets[asked], reduction="none")
        drawn = len(spots) // 3
        seen = {}
        for size, rows in (("drawn", slice(0, drawn)), ("large", slice(drawn, None))):
            seen[f"{kind}_{size}"] = right[rows].all(-1).float().mean().item()
            if kind == "boxes":
                seen[f"says_{size}"] = right[rows][weights[rows] > 1].float().mean().item()
        return (losses * weights[asked]).sum() / weights[asked].sum(), seen

    def saying(self, told: list[int]) -> list[int]:
        """Where the first decimals of left and top are among the ids of a box."""
        point = self.processor.tokenizer.convert_tokens_to_ids(".")
        return [i + 1 for i, one in enumerate(told) if one == point][:2]

    def places(self, spot: data.Spot, rng: Any) -> list[tuple[list[int], int, Tensor]]:
        """Where things are, asked and answered as in the model's own training: what boxes are read off."""
        return [self.branch([[None, text]], place, spot.crop) for text, place in rng.choices(spot.places, k=PLACES)]

    def boxes(self, spot: data.Spot, rng: Any) -> list[tuple[list[int], int, Tensor]]:
        """First turns: all but one about items, each about another one, one about the whole picture or an item."""
        item = [pair for pair in spot.boxes if pair[1] != region.text(region.WHOLE)]
        rest = [pair for pair in spot.boxes if pair not in item]
        drawn = rng.sample(item, min(len(item), BOXES - 1))
        drawn += rng.choices(rest if rng.random() < 0.5 else item, k=BOXES - len(drawn))
        return [self.branch(turns.where(text, rng.choice(["what", "where"])), box, spot.crop) for text, box in drawn]

    def answers(self, spot: data.Spot, rng: Any) -> list[tuple[list[int], int, Tensor]]:
        """Both turns, about the question that there is a crop for."""
        text, box = spot.boxes[0]
        return [self.branch(turns.both(text, rng.choice(["what", "where"]), box), spot.answer, spot.crop)]

    def branch(self, said: list[Any], answer: str, crop: Tensor) -> tuple[list[int], int, Tensor]:
        """Ids behind the first picture (-1 stands for each position of the crop), where the answer starts, the crop."""
        _, rest = self.split(said)
        told = self.processor.tokenizer(f" {answer}", add_special_tokens=False).input_ids
        ids = [i for one in rest for i in ([-1] * len(crop) if one == words.IMAGE else [one])]
        return [*ids, *told, words.EOS], len(ids), crop[: len(crop) * (words.IMAGE in rest)]

    def split(self, said: list[Any]) -> tuple[list[int], list[int]]:
        """Token ids of a chat before its first picture, and behind it."""
        ids = self.processor.tokenizer(chat(self.processor, said)).input_ids
        at = ids.index(words.IMAGE)
        return ids[:at], ids[at + 1 :]


def commonly(rows: list[list[int]]) -> int:
    """How many ids all rows begin with, before any crop."""
    alike = (len(set(ids)) == 1 and ids[0] != -1 for ids in zip(*rows, strict=False))
    return sum(takewhile(bool, alike))


def main() -> None:
    """Look, train, and write the adapter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/spot"), help="scenes that were looked at, checkpoints, log"
    )
    parser.add_argument("--weights", type=Path, default=Path("src/herovlm/modules/weights/chain_of_spot"))
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--pictures", type=int, default=6, help="a step")
    parser.add_argument("--small", action="store_true", help="one cycle of steps on 2 scenes, to see that it runs")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if args.small:
        args.scenes, args.steps, args.pictures = 2, len(data.CYCLE), 1
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model, processor = demo.load()
    spots = data.shelf(model, processor, args.scenes, args.out / "scenes")
    stage = Stage(model, processor)
    loop.run(
        "spot",
        stage,
        lambda step: data.batches(spots, args.pictures, step),
        args.steps,
        1.5e-3,
        args.out,
        warmup=30,
        half=False,
        save=50,
        muon=False,
    )
    export(model, args.weights, args.steps)


def export(model: Any, folder: Path, steps: int) -> None:
    """Write the adapter as peft does, in bfloat16, and its card."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        f"base_model.model.{k}": v.to(torch.bfloat16)
        for k, v in get_peft_model_state_dict(model, adapter_name=NAME).items()
    }
    save_file(values, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": LORA.r, "lora_alpha": LORA.lora_alpha, "target_modules": LORA.target_modules}
    config |= {"bias": "none", "lora_dropout": 0.0, "task_type": None, "inference_mode": True}
    card = {"kind": "lora", "name": NAME, "made_for": "the demo model", "paper": "arXiv 2403.12966"}
    card |= {"trained": {"recipe": "training/chain_of_spot", "steps": steps}}
    for name, fields in (("adapter_config.json", config), ("module.json", card)):
        (folder / name).write_text(json.dumps(fields, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
