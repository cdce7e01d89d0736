"""How the cost of HERO's selection grows: `python benchmarks/growth.py [--small] --json FILE|-`.

Choosing and rebuilding the prompt at keep=0.2, real tiles and patches, seen once by a model with random weights: one
image of 2 to 10 tiles (a thumbnail and grids of 1 x 1 to 3 x 3), and batches of 1 to 8 images of 5 tiles.  All sizes
take turns in one process.

slope      seconds a tile (an image), by least squares over the medians; "intercept" is what nothing costs
r_squared  how near the medians lie to that line
exponent   slope in log-log: 1 is linear, below 1 is a fixed cost that the first tiles share, 2 would be quadratic
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import record
import torch

from herovlm.cost import configs, shapes
from herovlm.cost.clock import Samples, Way, race
from herovlm.cost.run import selecting

KEEP, METHOD = 0.2, "hero"
GRIDS = ((1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3))  # rows and columns of local tiles
BATCHES = (1, 2, 4, 8)


def ways(model: Any) -> dict[str, Way]:
    """Selection for each number of tiles and each batch."""
    side, options = model.config.vision_config.image_size, record.asked(METHOD, KEEP)
    sizes = {f"tiles {1 + rows * columns}": (1, (rows * side, columns * side)) for rows, columns in GRIDS}
    sizes |= {f"batch {batch}": (batch, (2 * side, 2 * side)) for batch in BATCHES}

    def select(batch: int, size: tuple[int, int]) -> Way:
        return selecting(model, shapes.prompt(model, batch, size), options)

    return {name: select(*size) for name, size in sizes.items()}


@torch.no_grad()
def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Race all sizes and fit lines."""
    side = configs.config_of(args.shape).vision_config.image_size
    pins = [[rows * side, columns * side] for rows, columns in GRIDS]
    samples = race(ways(record.model(args, llm_layers=1, image_grid_pinpoints=pins)), args.rounds, warmup=3)
    fits = {kind: line(samples, kind) for kind in ("tiles", "batch")}
    return {
        "keep": KEEP,
        "method": METHOD,
        "ratios": {
            "exponent_tiles": fits["tiles"]["exponent"],
            "exponent_batch": fits["batch"]["exponent"],
            "per_tile_10_over_2": fits["tiles"]["each_last_over_first"],
            "per_image_8_over_1": fits["batch"]["each_last_over_first"],
        },
        "fits": fits,
        "results": record.spreads(samples),
    }


def line(samples: Mapping[str, Samples], kind: str) -> dict[str, float]:
    """Fit seconds over the number of tiles, or of images."""
    medians = {int(name.split()[1]): np.median(of["seconds"]) for name, of in samples.items() if name.startswith(kind)}
    x, y = np.array(list(medians)), np.array(list(medians.values()))
    slope, intercept = np.polyfit(x, y, 1)
    left = y - slope * x - intercept
    each = y / x
    return {
        "slope_s": float(slope),
        "intercept_s": float(intercept),
        "r_squared": float(1 - left.var() / y.var()),
        "exponent": float(np.polyfit(np.log(x), np.log(y), 1)[0]),
        "each_last_over_first": float(each[-1] / each[0]),
    }


if __name__ == "__main__":
    record.main(__doc__, "growth", measure, rounds=31)
