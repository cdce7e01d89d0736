from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from grids import make_seen

from herovlm.errors import MethodError
from herovlm.methods.cdpruner import CdPruner
from herovlm.types import Seen

SEEN = make_seen(2, 2, 6, (2, 0), newlines=False)
AFFINITY = torch.rand(5, 36, generator=torch.Generator().manual_seed(1))


def swap(seen: Seen = SEEN, **changes: Any) -> Seen:
    return dataclasses.replace(seen, affinity=changes.pop("affinity", AFFINITY), **changes)


@pytest.mark.parametrize("negate", [True, False])
def test_where_all_patches_are_alike_relevance_decides(negate: bool) -> None:
    method = CdPruner(negate=negate, scope="image")
    kept = method.keep(swap(features=torch.ones(5, 36, 8)), 30).mask
    best = -AFFINITY if negate else AFFINITY
    left = SEEN.valid & ~kept
    assert best[kept].min() > best[left].max()


def test_where_all_are_equally_relevant_it_spreads() -> None:
    features = torch.eye(8)[torch.arange(36) * 8 // 36].expand(5, -1, -1)
    seen = swap(features=features, affinity=torch.full((5, 36), 0.2), valid=torch.ones(5, 36, dtype=torch.bool))
    kept = CdPruner().keep(seen, 40)
    assert (kept.why["relevance"] == 1).all()
    assert (features * kept.mask[..., None]).sum(1).equal(torch.ones(5, 8)), "one of each kind in every tile"


def test_only_the_order_and_spacing_of_the_cosines_count() -> None:
    mask = CdPruner().keep(swap(), 50).mask
    assert mask.equal(CdPruner().keep(swap(affinity=0.3 * AFFINITY - 0.1), 50).mask)
    assert not mask.equal(CdPruner().keep(swap(affinity=AFFINITY**8), 50).mask)


def test_padding_has_no_say_in_the_scale() -> None:
    loud = AFFINITY.masked_fill(~SEEN.valid, -50)
    kept, other = CdPruner().keep(swap(), 50), CdPruner().keep(swap(affinity=loud), 50)
    assert kept.mask.equal(other.mask)
    assert kept.why["relevance"].equal(other.why["relevance"])
    assert kept.why["relevance"][SEEN.valid].min() > 0
    assert kept.why["relevance"].max() == pytest.approx(1, abs=1e-5)


def test_every_tile_has_its_share_unless_all_are_one_contest() -> None:
    seen = swap(affinity=AFFINITY + torch.tensor([0.0, 0, 0, 0, -9])[:, None])  # the last tile is the relevant one
    share = SEEN.valid.sum(1) * 52 / SEEN.valid.sum()
    assert ((CdPruner().keep(seen, 52).granted - share).abs() < 1).all()
    assert CdPruner(scope="image").keep(seen, 20).granted.argmax() == 4


def test_it_asks_for_a_question() -> None:
    with pytest.raises(MethodError, match="question"):
        CdPruner().keep(swap(affinity=None), 50)


def test_by_words_the_patches_nearest_to_the_question_are_relevant() -> None:
    """Whatever the lengths of features and words."""
    words = torch.eye(8)[:2] * torch.tensor([[5.0], [0.1]])
    features = torch.eye(8)[torch.arange(36) % 8].expand(5, -1, -1) * 3
    seen = dataclasses.replace(SEEN, features=features, words={"all": words}, affinity=None)
    relevance = CdPruner(by="words").keep(seen, 30).why["relevance"]
    named = (torch.arange(36) % 8 < 2).expand(5, -1)
    assert relevance[named & SEEN.valid].min() > 0.99
    assert relevance[~named].max() < 0.01


def test_by_words_wants_words_and_clip_is_answered_with_them() -> None:
    with pytest.raises(MethodError, match="give one"):
        CdPruner(by="words").keep(swap(), 50)
    assert CdPruner(scope="image").without(frozenset({"affinity"})) == (CdPruner(by="words", scope="image"),)
    assert CdPruner(by="words").without(frozenset({"affinity"})) == ()
