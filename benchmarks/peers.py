"""What choosing costs, method by method: `python benchmarks/peers.py [--small] --json FILE|-`.

Every method before the LLM, alone, on one image of the real shape with random signals: a thumbnail and 2 x 2 tiles of
CLIP ViT-L/14-336 (576 patches, 1024 channels, 16 heads) at keep=0.2.  Seeing is not counted: each method is handed what
it asked for and nothing else.  Rounds are interleaved in one process; "ratios" are times over HERO's.
"""

from __future__ import annotations

import argparse
import time

import torch
from record import hand_over, ratio, spread
from signals import geometry
from torch import Tensor
from transformers import CLIPVisionConfig

from herovlm import parse, registry
from herovlm.adapters.packing import Layout
from herovlm.methods.base import Method
from herovlm.types import Seen, budget_of

KEEP, DEPTH, HERO = 0.2, 24, "hero"


class Image:
    """Random signals of one image, each drawn when a method first asks for it."""

    def __init__(self, channels: int, heads: int) -> None:
        vision = CLIPVisionConfig(hidden_size=channels, num_attention_heads=heads, image_size=336, patch_size=14)
        self.layout: Layout = geometry(vision)
        self.channels, self.heads = channels, heads
        self.drawn: dict[str, Tensor] = {}

    def draw(self, signal: str, *size: int) -> Tensor:
        """The same random tensor for the same signal, (T, *size)."""
        if signal not in self.drawn:
            random = torch.Generator().manual_seed(len(self.drawn))
            self.drawn[signal] = torch.randn(len(self.layout.valid), *size, generator=random)
        return self.drawn[signal]

    def seen_by(self, method: Method) -> Seen:
        """What a method declared."""
        needs, patches = method.needs(DEPTH), self.layout.valid.shape[1]
        return Seen(
            self.layout.grid,
            self.layout.valid,
            features=self.draw("features", patches, self.channels),
            attention={
                b: (2 * self.draw(f"attention {b}", self.heads, patches + 1)).softmax(-1)[..., 1:]
                for b in needs.attention
            },
            cls=self.draw("cls", self.channels) if needs.cls else None,
            relevance=self.draw("relevance").tanh() / 4 if needs.relevance else None,
            affinity=self.draw("affinity", patches).tanh() / 4 if needs.affinity else None,
            keys={b: self.draw(f"keys {b}", 1 + patches, self.channels) for b in needs.keys},
            queries={b: self.draw(f"queries {b}", self.channels) for b in needs.keys},
            received={b: self.draw(f"received {b}", patches).softmax(-1) * patches for b in needs.received},
            hidden=self.draw("hidden", patches, self.channels) if needs.hidden else None,
            depth=DEPTH,
            heads=self.heads,
        )


@torch.no_grad()
def measure(names: list[str], image: Image, rounds: int) -> dict[str, list[float]]:
    """Seconds of each method in each round, after one that is not counted."""
    methods = {name: parse(name) for name in names}
    budget = budget_of(KEEP, image.seen_by(methods[HERO]).positions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for counted in [False] + [True] * rounds:
        for name, method in methods.items():
            seen = image.seen_by(method)
            start = time.perf_counter()
            method.keep(seen, budget, share=KEEP)
            if counted:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measure and write one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="an eighth of the channels and heads, a few seconds")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--methods", default=",".join(registry.METHODS), help="names, with commas between")
    parser.add_argument("--json", default="-", help="file to write, or - for standard output")
    args = parser.parse_args()
    part, rounds = (8, 2) if args.small else (1, args.rounds)
    image = Image(1024 // part, 16 // part)
    seconds = measure(list(dict.fromkeys([HERO, *args.methods.split(",")])), image, rounds)
    hand_over(
        args.json,
        "peers",
        args.small,
        rounds,
        keep=KEEP,
        shape={
            "tiles": image.layout.valid.shape[0],
            "patches": image.layout.valid.shape[1],
            "channels": image.channels,
            "heads": image.heads,
        },
        ratios={name: ratio(times, seconds[HERO]) for name, times in seconds.items()},
        seconds={name: spread(times) for name, times in seconds.items()},
    )


if __name__ == "__main__":
    main()
