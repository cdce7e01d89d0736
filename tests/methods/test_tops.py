"""TOPS before the LLM: relevance is CLS attention, over all tiles."""

from __future__ import annotations

import dataclasses

import torch
from grids import make_seen

from herovlm.methods.tops import Tops
from herovlm.ops import diversity, threefold
from herovlm.types import Needs

SEEN = make_seen(2, 2, 4, (1, 0), needs=Needs((4, 5)))


def test_needs_the_block_that_feeds_the_llm() -> None:
    assert Tops().needs(24) == Needs((22,))
    assert Tops(layer=-1).needs(24) == Needs((23,))


def test_without_the_other_terms_it_is_cls_attention_over_all_tiles() -> None:
    attention = SEEN.attention[4].mean(1).masked_fill(~SEEN.valid, -1)
    kept = Tops(alpha=0, lam=0).keep(SEEN, 20).mask
    assert {*kept.flatten().nonzero()[:, 0].tolist()} == {*attention.flatten().topk(20).indices.tolist()}
    assert Tops(alpha=0, lam=0, scope="tile").keep(SEEN, 20).mask.sum(1).tolist() != kept.sum(1).tolist()


def test_padding_neither_counts_as_a_candidate_nor_has_to_be_covered() -> None:
    loud = dataclasses.replace(SEEN, features=torch.where(SEEN.valid[..., None], SEEN.features, 9.0))
    assert Tops(lam=3).keep(SEEN, 20).mask.equal(Tops(lam=3).keep(loud, 20).mask)


def test_it_picks_by_the_rule_among_the_valid_patches_of_all_tiles() -> None:
    cells = SEEN.valid.flatten().nonzero()[:, 0]
    similar = diversity.cosines(SEEN.features.flatten(0, 1)[cells])
    relevance = SEEN.attention[4].mean(1).flatten()[cells]
    want = cells[threefold.order(similar[None], relevance[None], 15, alpha=0.3, lam=0.7)[0, :15]]
    kept = Tops(alpha=0.3, lam=0.7).keep(SEEN, 15)
    assert kept.mask.flatten().nonzero()[:, 0].equal(want.sort().values)
    assert kept.why["score"].flatten().argsort(descending=True, stable=True)[:15].equal(want)


def test_repeated_features_are_not_kept_twice() -> None:
    seen = dataclasses.replace(SEEN, features=SEEN.features[:1].expand_as(SEEN.features))  # all tiles show the same
    places = Tops(alpha=9, lam=9).keep(seen, 16).mask.nonzero()[:, 1]
    assert len(places.unique()) == 16
    assert len(Tops(alpha=0, lam=0).keep(seen, 16).mask.nonzero()[:, 1].unique()) < 16
