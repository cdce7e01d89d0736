"""What HERO's signals cost over the plain vision tower: `python benchmarks/signals.py [--small] --json FILE|-`.

Random weights of the real shape (CLIP ViT-L/14-336, 5 tiles), in each of --dtypes.  Four ways to see, taking turns in
one process:

tower     the vision tower with sdpa, nothing recorded
signals   the same, CLS rows of HERO's layers recorded, the question embedded by CLIP's text tower and compared with the
          tiles, and a fifth of the positions chosen
drop      the same as `herovlm.drop` does it: what nobody reads at the end of the tower is left out
authors   as HERO's published code does it: eager attention with all maps kept, and the full CLIP once more, tile by
          tile; choosing is not counted

"above" is peak memory above what was held before the run: on a CPU the resident set, whose high-water mark is reset
before each run; on a GPU what the allocator gave.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import record
import torch

from herovlm import parse, registry
from herovlm.budget import Share
from herovlm.cost import shapes
from herovlm.cost.clock import race, timed
from herovlm.towers import recording, relevance, shortcut
from herovlm.types import Seen

KEEP, METHOD = 0.2, "hero"
DTYPES = "bfloat16,float32"


def ways(model: Any) -> dict[str, Callable[[], None]]:
    """The four ways to see one image."""
    family, hero, inputs = registry.family(model), parse(METHOD), shapes.prompt(model)
    tower, tiles = family.tower(model), family.tiles(model, inputs).flatten(0, -4)  # (T, 3, height, width)
    here = family.layouts(model, inputs)[0].on(tiles.device)
    needs = hero.needs(family.depth(model))

    def plain() -> None:
        tower(tiles)

    def signals() -> None:
        with recording.cls_rows(tower, needs.attention) as rows:
            states = tower(tiles).last_hidden_state
        cls = states[:, 0].float()
        cosine = relevance.score(model, "tower", [shapes.QUESTION], cls, [0] * len(tiles))
        told = {"attention": rows, "cls": cls, "relevance": cosine, "depth": family.depth(model)}
        seen = Seen(here.grid, here.valid, counted=here.counts, **told)
        hero.keep(seen, Share(KEEP).of(seen.positions))

    def drop() -> None:
        features = max(shortcut.feature_blocks(model, inputs, family.depth(model)))
        with shortcut.taken(tower, features, needs):
            signals()

    def authors() -> None:
        tower.set_attn_implementation("eager")
        tower(tiles, output_attentions=True)
        for tile in tiles:
            tower(tile[None])
        tower.set_attn_implementation("sdpa")

    return {"tower": plain, "signals": signals, "drop": drop, "authors": authors}


@torch.no_grad()
def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Race the four ways in each dtype."""
    results, ratios = {}, {}
    dtypes = args.dtypes.split(",")
    for dtype in dtypes:
        model = record.model(args, dtype=getattr(torch, dtype), llm_layers=1)
        samples = race({name: timed(run, model.device) for name, run in ways(model).items()}, args.rounds)
        results[dtype] = record.spreads(samples)
        over = record.ratios(samples, "seconds", "tower")
        ratios[dtype] = {f"{name}_over_tower": over[name] for name in ("signals", "drop", "authors")}
    return {"tiles": 5, "method": METHOD, "ratios": {**ratios[dtypes[0]], **ratios}, "results": results}


if __name__ == "__main__":
    dtypes = {"default": DTYPES, "help": "of the tower, one after the other, with commas between"}
    record.main(__doc__, "signals", measure, rounds=9, dtypes=dtypes)
