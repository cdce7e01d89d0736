from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from grids import make_grid

from herovlm.types import Kept, Seen

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import replay  # noqa: E402

FILES = sorted(p for p in HERE.iterdir() if p.stem in replay.REPLAYS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_case_is_equal(path: Path) -> None:
    assert replay.replay(path) == {number: [] for number in replay.cases(path)}


def test_every_golden_file_here_has_a_replay_and_hero_has_all_its_cases() -> None:
    assert {p.stem for p in HERE.glob("*.npz")} <= set(replay.REPLAYS)
    assert len(replay.cases(HERE / "hero_selection.npz")) == 8


def test_the_authors_of_globalcom2_number_valid_patches_and_take_the_number_for_the_slot() -> None:
    from replays.globalcom2 import canvas_order

    grid = make_grid(1, 2, 2)
    valid = torch.tensor([[True] * 4, [False, True, False, True], [True] * 4])  # a column of padding on the left
    kept = Kept(torch.tensor([[False] * 4, [False, True, False, True], [True, False, False, True]]), grid.sent)
    order = canvas_order(Seen(grid, valid), kept).tolist()
    assert order == [[1, 1], [1, 3], [2, 0], [-1, -1], [2, 3], [-1, -1]]


def run(*arguments: str | Path) -> tuple[int, str]:
    command = [sys.executable, str(HERE / "replay.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_as_a_command_it_counts(tmp_path: Path) -> None:
    assert run(HERE / "hero_selection.npz") == (0, "cases=8 equal=8\n")


@pytest.mark.parametrize("name", ["alloc", "local_mask", "global_mask", "llm_tokens"])
def test_it_sees_a_difference_in_every_array(tmp_path: Path, name: str) -> None:
    with np.load(HERE / "hero_selection.npz") as arrays:
        changed = {key: arrays[key] for key in arrays.files}
    value = changed[f"03/{name}"]
    changed[f"03/{name}"] = ~value if value.dtype == bool else value + 1
    np.savez(tmp_path / "hero_selection.npz", **changed)
    assert replay.replay(tmp_path / "hero_selection.npz")["03"] == [name]
    assert replay.main([str(tmp_path / "hero_selection.npz")]) == 1


def test_an_unknown_file_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "heroes.npz").touch()
    for arguments in ([], ["nowhere/hero_selection.npz"], [str(tmp_path / "heroes.npz")]):
        assert replay.main(arguments) == 2
