from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen

from herovlm.errors import MethodError
from herovlm.methods.cls_topk import ClsTopK
from herovlm.methods.vitcop import VitCop
from herovlm.types import Needs

SEEN = make_seen(2, 2, 6, (2, 0))


def test_it_keeps_what_the_cls_token_looks_at_in_one_block() -> None:
    assert VitCop().needs(24) == Needs((22,), keys=(22,))
    assert VitCop().keep(SEEN, 50).mask.equal(ClsTopK(layers=(4,)).keep(SEEN, 50).mask)


@pytest.mark.parametrize("budget", [2, 5, 40, 90])
def test_every_kept_patch_is_in_a_cluster_of_its_own_tile(budget: int) -> None:
    kept = VitCop(centres=0.3).keep(SEEN, budget)
    labels = kept.why["cluster"]
    assert (labels >= 0).equal(kept.mask)
    assert (labels[~kept.mask] == -2).all()
    of_tile = [set(row[row >= 0].tolist()) for row in labels]
    assert [len(found) for found in of_tile] == [max(n > 0, int(0.3 * n)) for n in kept.granted.tolist()]
    earlier = kept.granted.cumsum(0) - kept.granted
    for found, start, n in zip(of_tile, earlier.tolist(), kept.granted.tolist(), strict=True):
        assert all(start <= label < start + n for label in found)


def test_a_tiles_clusters_are_those_of_its_keys() -> None:
    keys = torch.zeros(5, 36, 8)
    keys[:, ::2] = 50  # patches at even places
    method = VitCop(centres=0.2, near=2.0)
    kept = method.keep(dataclasses.replace(SEEN, keys={4: keys}), 100)
    assert kept.granted.min() >= 10
    for t, row in enumerate(kept.why["cluster"]):
        even, odd = (set(row[i::2][kept.mask[t, i::2]].tolist()) for i in (0, 1))
        assert not even & odd


def test_only_the_published_code_leaves_patches_without_a_cluster() -> None:
    pairs = (torch.arange(36) + 2) // 2 * 1000.0  # patches 0 and 1 alike, 2 and 3 alike, all densities equal
    seen = dataclasses.replace(
        make_seen(0, 0, 6), attention={4: torch.ones(1, 2, 36) / 36}, keys={4: pairs[None, :, None]}
    )
    first = VitCop(centres=0.1, variant="official").keep(seen, 20)
    assert (first.why["cluster"] == -1).sum() == 18  # both centres are of one pair
    assert (VitCop(centres=0.1).keep(seen, 20).why["cluster"] != -1).all()


def test_keys_that_are_missing_are_named() -> None:
    with pytest.raises(MethodError, match="block 4"):
        VitCop().keep(dataclasses.replace(SEEN, keys={3: SEEN.keys[3]}), 50)
