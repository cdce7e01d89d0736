"""What HERO's signals cost over the plain vision tower: `python benchmarks/signals.py [--small] --json FILE|-`.

Random weights of the real shape (CLIP ViT-L/14-336, 5 tiles).  Three ways to see, interleaved in one process:
"tower" (sdpa, nothing recorded), "signals" (sdpa + CLS rows of HERO's layers, tile weights and selection), "authors"
(as HERO's published code: eager attention with all maps kept, and the full CLIP once more, tile by tile).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from record import hand_over, ratio, spread
from transformers import CLIPVisionConfig, CLIPVisionModel, LlavaNextConfig, LlavaNextForConditionalGeneration

from herovlm import parse, registry
from herovlm.adapters import watch
from herovlm.adapters.packing import Layout
from herovlm.types import Seen, budget_of

KEEP = 0.2


def tower(small: bool, dtype: torch.dtype) -> CLIPVisionModel:
    """A random tower of the real shape, or a quarter as wide and deep."""
    part = 4 if small else 1
    config = CLIPVisionConfig(
        hidden_size=1024 // part,
        intermediate_size=4096 // part,
        num_hidden_layers=24 // part,
        num_attention_heads=16 // part,
        image_size=336,
        patch_size=14,
    )
    return CLIPVisionModel(config).to(dtype).eval()


def geometry(tower_config: CLIPVisionConfig) -> Layout:
    """Where the positions of a 2 x 2 canvas come from, asked of a LLaVA-NeXT with the same tiles and few weights."""
    vision = tower_config.to_dict() | {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    text = {
        "model_type": "llama",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "vocab_size": 32,
    }
    config = LlavaNextConfig(vision_config=vision | {"num_attention_heads": 1}, text_config=text)
    model = LlavaNextForConditionalGeneration(config)
    pixels = torch.zeros(1, 5, 3, tower_config.image_size, tower_config.image_size)
    size = torch.tensor([[2 * tower_config.image_size] * 2])
    return registry.adapter(model).layouts(model, {"pixel_values": pixels, "image_sizes": size})[0]


def ways(model: CLIPVisionModel, tiles: torch.Tensor) -> dict[str, Callable[[], None]]:
    """The three ways to see one image."""
    method = parse("hero")
    needs = method.needs(model.config.num_hidden_layers)
    layout = geometry(model.config)
    projection = torch.nn.Linear(model.config.hidden_size, 768, bias=False).to(tiles.dtype)
    text = torch.randn(768)

    def plain() -> None:
        model(tiles)

    def signals() -> None:
        with watch.cls_rows(model, needs.attention) as rows:
            cls = model(tiles).last_hidden_state[:, 0]
        cosine = torch.cosine_similarity(projection(cls).float(), text, dim=-1)
        seen = Seen(
            layout.grid,
            layout.valid,
            attention=rows,
            cls=cls.float(),
            relevance=cosine,
            depth=model.config.num_hidden_layers,
        )
        method.keep(seen, budget_of(KEEP, seen.positions))

    def authors() -> None:
        model.set_attn_implementation("eager")
        model(tiles, output_attentions=True)
        for tile in tiles:
            model(tile[None])
        model.set_attn_implementation("sdpa")

    return {"tower": plain, "signals": signals, "authors": authors}


@torch.no_grad()
def measure(small: bool, dtype: torch.dtype, rounds: int) -> dict[str, object]:
    """Median and spread of each way, rounds interleaved so that noise hits all alike."""
    model = tower(small, dtype)
    tiles = torch.randn(5, 3, 336, 336, dtype=dtype)
    todo = ways(model, tiles)
    for run in todo.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in todo}
    for _ in range(rounds):
        for name, run in todo.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    ratios = {f"{name}_over_tower": ratio(seconds[name], seconds["tower"]) for name in ("signals", "authors")}
    return {"seconds": {name: spread(times) for name, times in seconds.items()}, "ratios": ratios}


def main() -> None:
    """Measure in bfloat16 and float32 and write one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a small tower, a few seconds")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", default="-", help="file to write, or - for standard output")
    args = parser.parse_args()
    rounds = 3 if args.small else args.rounds
    results = {
        str(dtype).removeprefix("torch."): measure(args.small, dtype, rounds)
        for dtype in (torch.bfloat16, torch.float32)
    }
    hand_over(args.json, "signals", args.small, rounds, ratios=results["bfloat16"]["ratios"], results=results)


if __name__ == "__main__":
    main()
