from __future__ import annotations

import dataclasses

import pytest
from grids import make_seen

from herovlm.methods.fastervlm import FasterVlm


@pytest.mark.parametrize(("method", "block"), [(FasterVlm(), 4), (FasterVlm(layer=0.2), 1)])
def test_it_keeps_what_one_block_looks_at_in_every_tile(method: FasterVlm, block: int) -> None:
    seen = make_seen(2, 1, 5, depth=6, newlines=False)
    assert method.needs(6).attention == (block,)
    kept = method.keep(seen, 30)
    best = seen.attention[block].mean(1).topk(10).indices.sort(1).values
    assert kept.mask.nonzero()[:, 1].view(3, 10).equal(best)


def test_one_contest_is_won_by_the_tile_that_is_looked_at_most() -> None:
    seen = make_seen(2, 1, 5, newlines=False)
    rows = seen.attention[4].clone()
    rows[2] += 1
    kept = FasterVlm(scope="image").keep(dataclasses.replace(seen, attention={4: rows}), 25)
    assert kept.granted.tolist() == [0, 0, 25]
