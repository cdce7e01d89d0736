"""How deep a patch came is counted on the prompt's own order of positions, newlines and all."""

from __future__ import annotations

import torch
from grids import make_seen

from herovlm.types import Kept, KeptInside
from herovlm.viz.inside import layers_read


def test_a_patch_is_read_by_the_layers_before_the_cut_that_drops_it() -> None:
    seen = make_seen(1, 2, 2)
    mask = torch.zeros_like(seen.valid)
    mask[0, 3] = mask[1, 2] = mask[2, 0] = mask[2, 3] = True
    kept = Kept(mask, torch.tensor([True, False]))
    # in the prompt: thumbnail 3; canvas row 0: tile 2 patch 0, newline; canvas row 1: tile 1 patch 2, tile 2 patch 3
    inside = KeptInside((5, 5, 3, 3, 3, 1), {2: torch.tensor([0, 1, 3]), 5: torch.tensor([3])}, {})
    expected = torch.zeros(3, 4)
    expected[0, 3] = expected[2, 0] = 5
    expected[1, 2] = 6
    expected[2, 3] = 2
    assert layers_read(seen, kept, inside).equal(expected)


def test_without_newlines_and_without_a_cut_all_layers_read_what_was_sent() -> None:
    seen = make_seen(0, 0, 3, newlines=False)
    kept = Kept(seen.valid, seen.grid.sent)
    assert layers_read(seen, kept, KeptInside((9,) * 4, {}, {})).equal(torch.full((1, 9), 4.0))
