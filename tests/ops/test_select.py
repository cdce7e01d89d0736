from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from herovlm.ops import select


@st.composite
def scored(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    tiles, patches = draw(st.integers(1, 4)), draw(st.integers(1, 30))
    few = st.sampled_from([0.0, 0.25, 1.0, float("nan"), float("inf"), -float("inf")])  # few values: many ties
    scores = draw(st.lists(few, min_size=tiles * patches, max_size=tiles * patches))
    valid = draw(st.lists(st.booleans(), min_size=tiles * patches, max_size=tiles * patches))
    return torch.tensor(scores).view(tiles, patches), torch.tensor(valid).view(tiles, patches)


@given(scored())
def test_ranks_are_a_permutation_that_follows_validity_then_score_then_position(
    case: tuple[torch.Tensor, torch.Tensor],
) -> None:
    scores, valid = case
    ranks = select.ranks(scores, valid)
    for tile in range(len(scores)):
        order = ranks[tile].argsort().tolist()
        assert sorted(ranks[tile].tolist()) == list(range(len(order)))
        worst = scores[tile].nan_to_num(-torch.inf, torch.inf, -torch.inf).tolist()
        keys = [(not valid[tile, p], -worst[p] if valid[tile, p] else 0, p) for p in order]
        assert keys == sorted(keys)


@given(scored(), st.data())
def test_top_keeps_the_best_valid_patches_and_no_others(
    case: tuple[torch.Tensor, torch.Tensor], data: st.DataObject
) -> None:
    scores, valid = case
    wanted = torch.tensor([data.draw(st.integers(0, 40)) for _ in scores])
    mask = select.top(select.ranks(scores, valid), wanted, valid)
    fitting = torch.minimum(wanted, valid.sum(1)).tolist()
    assert select.first(select.order(scores, valid), fitting).equal(mask), "what the host knows is the same"
    assert mask.sum(1).equal(torch.minimum(wanted, valid.sum(1)))
    assert not (mask & ~valid).any()
    scores = scores.nan_to_num(-torch.inf, torch.inf, -torch.inf)
    for kept, left, s in zip(mask, valid & ~mask, scores, strict=True):
        if kept.any() and left.any():
            assert s[kept].min() >= s[left].max()


@given(scored())
def test_half_precision_scores_rank_as_their_float32_values(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    scores, valid = case
    assert select.ranks(scores.bfloat16(), valid).equal(select.ranks(scores, valid))
