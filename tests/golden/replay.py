"""Replay golden cases through the public method objects: python tests/golden/replay.py FILE.npz|DIR.

The file name chooses the method: `replays/NAME.py` has one function `differences(case, path)`, which gives the names of
the arrays that differ.  Prints `cases=… equal=…`; exit 0 all equal, 1 any difference, 2 unknown file.  A folder is one
case, its arrays in case.npz.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # grids.py, and the package replays

Case = Mapping[str, np.ndarray]
REPLAYS = sorted(file.stem for file in (HERE / "replays").glob("[a-z]*.py"))


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
    differences = import_module(f"replays.{path.stem}").differences
    return {number: differences(case, path) for number, case in cases(path).items()}


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
