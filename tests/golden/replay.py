"""Replay golden cases through the public method objects: python tests/golden/replay.py FILE.npz|DIR.

The file name chooses the method.  Prints `cases=… equal=…`; exit 0 all equal, 1 any difference, 2 unknown file.
A new method is one function `name(arrays of a case, path) -> names of the arrays that differ` in REPLAYS; a folder is
one case, its arrays in case.npz.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from grids import make_grid

from herovlm.methods.hero import Hero
from herovlm.types import Kept, Seen

Case = Mapping[str, np.ndarray]


def hero_selection(case: Case, path: Path) -> list[str]:
    """Budgets, masks and number of positions of the authors' HERO."""
    low, high = torch.from_numpy(case["low_rows"]), torch.from_numpy(case["high_rows"])  # (L, K, H, N+1), (L, H, N+1)
    none = torch.zeros_like(low[0])  # the thumbnail has no low rows, the local tiles no high ones
    blocks = {b: torch.cat([none[:1], rows])[..., 1:] for b, rows in enumerate(low)}  # each (T, H, N)
    for b, rows in enumerate(high, start=len(low)):
        blocks[b] = torch.cat([rows[None], none])[..., 1:]
    valid = torch.from_numpy(case["valid_mask"])
    rows, cols = (int(n) for n in case["grid_hw"])
    side = round(valid.shape[1] ** 0.5)
    canvas = valid.view(rows, cols, side, side).any(1).any(-1).flatten()  # canvas rows that un-padding keeps
    seen = Seen(
        make_grid(rows, cols, side, canvas),
        torch.cat([torch.ones_like(valid[:1]), valid]),
        attention=blocks,
        cls=torch.from_numpy(case["cls"]),
        relevance=torch.cat([torch.zeros(1), torch.from_numpy(case["clip_cosine"])]),
        depth=len(blocks),
    )
    method = Hero(
        variant="official",
        low_layers=tuple(range(len(low))),
        high_layers=tuple(range(len(low), len(blocks))),
        alpha=float(case["alpha"]),
        t_cls=float(case["T_cls"]),
        t_clip=float(case["T_clip"]),
    )
    share = float(case["R"])
    return compare_hero(method.keep(seen, max(1, round(share * seen.positions)), share=share), case)


def compare_hero(kept: Kept, case: Case) -> list[str]:
    """Names of the arrays in which a record of HERO differs from a golden case."""
    found = {
        "alloc": kept.granted[1:],
        "local_mask": kept.mask[1:],
        "global_mask": kept.mask[0],
        "llm_tokens": torch.tensor(kept.positions),
    }
    return [name for name, value in found.items() if not np.array_equal(value.cpu().numpy(), case[name])]


REPLAYS: dict[str, Callable[[Case, Path], list[str]]] = {"hero_selection": hero_selection}


def cases(path: Path) -> dict[str, Case]:
    """Cases of one golden file, whose keys are `NN/array`, or of a folder."""
    if path.is_dir():
        with np.load(path / "case.npz") as arrays:
            return {"00": dict(arrays)}
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            number, name = key.split("/", 1)
            found.setdefault(number, {})[name] = arrays[key]
    return dict(sorted(found.items()))


def replay(path: Path) -> dict[str, list[str]]:
    """Differences of every case of a golden file or folder, by the case's number."""
    return {number: REPLAYS[path.stem](case, path) for number, case in cases(path).items()}


def main(arguments: list[str]) -> int:
    """Replay the one file named."""
    if len(arguments) != 1:
        print(f"usage: replay.py FILE.npz|DIR, one of: {', '.join(REPLAYS)}", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    if path.stem not in REPLAYS or not path.exists():
        print(f"{path}: no such file, or no replay for it; there are: {', '.join(REPLAYS)}", file=sys.stderr)
        return 2
    results = replay(path)
    for number, differences in results.items():
        if differences:
            print(f"case {number} differs in {', '.join(differences)}")
    print(f"cases={len(results)} equal={sum(not d for d in results.values())}")
    return int(not results or any(results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
