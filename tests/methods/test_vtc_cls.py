from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen

from herovlm.methods.vtc_cls import VtcCls


def test_the_run_is_blocks_16_to_22_of_24_and_scales_with_the_tower() -> None:
    assert VtcCls().needs(24).attention == tuple(range(16, 23))
    assert VtcCls().needs(12).attention == (8, 9, 10)
    assert VtcCls().needs(2).attention == (0,)  # too shallow for a run: the last block of it alone
    assert VtcCls(first=3, last=4).needs(24).attention == (3, 4)


def test_the_rows_of_the_run_are_summed_and_the_last_block_is_not_read() -> None:
    seen = make_seen(0, 0, 4, depth=6)
    method = VtcCls(first=2)
    kept = method.keep(seen, 5)
    expected = sum(seen.attention[b].mean(1) for b in (2, 3, 4))
    assert kept.why["score"].allclose(torch.as_tensor(expected))
    other = {**seen.attention, 5: seen.attention[5].flip(-1)}
    assert method.keep(dataclasses.replace(seen, attention=other), 5).mask.equal(kept.mask)
    other = {**seen.attention, 2: seen.attention[2].flip(-1)}
    assert not method.keep(dataclasses.replace(seen, attention=other), 5).mask.equal(kept.mask)


@pytest.mark.parametrize(("scope", "granted"), [("tile", [8] * 5), ("image", [16, 16, 8, 0, 0])])
def test_every_tile_on_its_own_or_one_contest(scope: str, granted: list[int]) -> None:
    seen = make_seen(2, 2, 4, depth=4, newlines=False)
    loud = torch.tensor([5.0, 4, 3, 2, 1]).view(-1, 1, 1) + seen.attention[2] / 10
    method = VtcCls(first=2, scope=scope)  # type: ignore[arg-type]
    kept = method.keep(dataclasses.replace(seen, attention={2: loud}), 40)
    assert kept.granted.tolist() == granted
