from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_grid, make_seen

from herovlm.errors import MethodError
from herovlm.methods.prumerge import PruMerge
from herovlm.methods.prumerge_plus import PruMergePlus
from herovlm.types import Kept, Needs, Seen

PRUNE, PLUS = PruMerge(newlines="none", neighbours=5), PruMergePlus(newlines="none", neighbours=5)


def seen_of(pad: tuple[int, int] = (0, 0), seed: int = 0) -> Seen:
    return make_seen(2, 2, 6, pad, seed=seed, needs=PRUNE.needs(6))


def one_tile(logits: list[float]) -> Seen:
    """One tile whose CLS logits are these (one channel, and a CLS key that nobody looks at)."""
    side = round(len(logits) ** 0.5)
    return Seen(
        make_grid(0, 0, side),
        torch.ones(1, side * side, dtype=torch.bool),
        keys={0: torch.tensor(logits)[None, :, None]},
        queries={0: torch.tensor([[[1.0], [-30.0]]])},
        hidden=torch.eye(side * side)[None],
        depth=1,
        heads=1,
    )


def expected(seen: Seen, kept: Kept, last: torch.Tensor, neighbours: int) -> torch.Tensor:
    """The paper's sums, patch by patch; `last` (T,) is the cell of each tile's one more token."""
    assert seen.hidden is not None
    out = []
    for t, (mask, x) in enumerate(zip(kept.mask, seen.hidden, strict=True)):
        keys, (query, own) = seen.keys[5][t], seen.queries[5][t]
        weight = (query @ torch.cat([own[None], keys]).T / keys.shape[1] ** 0.5).softmax(0)[1:]
        near = torch.nn.functional.cosine_similarity(keys[:, None], keys[None], dim=-1)
        for i in mask.nonzero()[:, 0].tolist():
            if i == last[t]:
                others = [j for j in range(len(x)) if seen.valid[t, j] and (not mask[j] or j == i)]
                value = torch.zeros_like(x[i])
            else:
                others = [j for j in near[i].argsort(descending=True).tolist() if seen.valid[t, j] and j != i]
                others, value = others[:neighbours], x[i]
            out.append(value + sum(weight[j] * x[j] for j in others))
    return torch.stack(out)


def test_it_asks_for_the_last_block_and_for_the_states_before_the_projector() -> None:
    assert PruMerge().needs(24) == PruMergePlus().needs(24) == Needs(keys=(23,), queries=(23,), hidden=True)


def test_tokens_are_the_sums_of_the_paper_and_the_last_one_stands_in_the_best_cell_of_the_rest() -> None:
    seen = seen_of(pad=(2, 0))
    kept = PRUNE.keep(seen, 50)
    score = kept.why["score"]
    worst = score.masked_fill(~kept.mask, torch.inf).argmin(1)  # of the kept: the best that is no centre
    assert (score.gather(1, worst[:, None]) > score.masked_fill(kept.mask | ~seen.valid, 0).amax(1, True)).all()
    torch.testing.assert_close(kept.hidden, expected(seen, kept, worst, 5))


def test_of_the_grid_too_every_token_is_a_sum_of_the_paper() -> None:
    seen = seen_of(pad=(2, 0))
    kept = PLUS.keep(seen, 50)
    cells = PLUS.cells(seen.valid, kept.granted)
    assert (kept.mask & cells).sum(1).tolist() == cells.sum(1).tolist()
    last = kept.why["score"].masked_fill(~kept.mask | cells, torch.inf).argmin(1)
    torch.testing.assert_close(kept.hidden, expected(seen, kept, last, 5))


def test_attention_is_one_softmax_over_all_channels_and_the_cls_key() -> None:
    seen = seen_of()
    score = PRUNE.keep(seen, 50).why["score"]
    assert score.equal(PRUNE.keep(dataclasses.replace(seen, heads=1), 50).why["score"])
    assert (score.sum(1) < 1).all()
    assert (score.sum(1) > 0.5).all()


@pytest.mark.parametrize("method", [PRUNE, PLUS], ids=str)
def test_a_tile_kept_whole_is_left_alone_and_the_others_are_not(method: PruMerge) -> None:
    seen = make_seen(1, 2, 4, (0, 3), needs=method.needs(6))  # 16, 4 and 4 valid patches
    kept = method.keep(seen, 23)
    assert seen.hidden is not None
    same = torch.zeros_like(kept.mask)
    same[kept.mask] = (kept.hidden == seen.hidden[kept.mask]).all(1)
    whole = (kept.mask == seen.valid).all(1)
    assert whole.sum() == 2
    assert same[whole].equal(seen.valid[whole])
    assert not same[~whole].any()


@pytest.mark.parametrize("high", [0, 1, 3])
def test_adaptive_keeps_the_outliers_and_one_more_at_any_budget(high: int) -> None:
    method = PruMerge(layer=0, variant="adaptive")
    seen = one_tile([0.01 * i for i in range(36 - high)] + [3.0 + i for i in range(high)])
    for budget in (2, 20):
        kept = method.keep(seen, budget)
        assert kept.why["best"].tolist() == [high]
        assert kept.mask[0, 35 - high :].all()
        assert kept.positions == high + 1
    assert not method.exact


def test_outliers_are_counted_among_valid_patches_and_a_tile_of_padding_has_none() -> None:
    method = PruMerge(variant="adaptive")
    seen = make_seen(3, 1, 4, (5, 1), needs=method.needs(6))
    kept = method.keep(seen, 9)
    assert kept.granted.tolist()[1] == 0
    score = kept.why["score"].double()
    for t in (0, 2):
        some = score[t, seen.valid[t]]
        low, high = some.quantile(0.25), some.quantile(0.75)
        assert kept.why["best"][t] == (some > high + 1.5 * (high - low)).sum()


def test_fixed_counts_the_share_itself() -> None:
    seen = one_tile([0.1 * i for i in range(36)])
    kept = PruMerge(layer=0, variant="fixed").keep(seen, 9, share=0.27)
    assert kept.mask[0].nonzero()[:, 0].tolist() == list(range(26, 36))  # int(9.72), and one more


def test_the_grid_is_there_whatever_attention_says() -> None:
    seen, other = seen_of(), seen_of(seed=1)
    a, b = PLUS.keep(seen, 60), PLUS.keep(other, 60)  # 12 a tile: 8 cells, 3 by attention, one more
    assert not a.mask.equal(b.mask)
    both = a.mask & b.mask
    assert (both.sum(1) >= 8).all()
    for tile in both:
        places = tile.nonzero()[:, 0]
        assert torch.cat([places.new_tensor([-1]), places, places.new_tensor([36])]).diff().max() <= 5


def test_without_a_grid_plus_is_prumerge() -> None:
    seen = seen_of(pad=(2, 0))
    a, b = PRUNE.keep(seen, 50), dataclasses.replace(PLUS, grid=0.0).keep(seen, 50)
    assert a.mask.equal(b.mask)
    assert a.hidden is not None
    assert b.hidden is not None
    assert a.hidden.equal(b.hidden)


@pytest.mark.parametrize(("variant", "step"), [("adaptive", 3), ("fixed", 9)])
def test_the_authors_steps_come_from_the_count(variant: str, step: int) -> None:
    method = PruMergePlus(layer=0, variant=variant)  # type: ignore[arg-type]
    kept = method.keep(one_tile([0.01 * i for i in range(32)] + [3.0, 4.0, 5.0, 6.0]), 9, share=1 / 9)
    cells = range(0, 35, 3) if step == 3 else range(4, 35, 9)
    assert set(kept.mask[0].nonzero()[:, 0].tolist()) == {*cells, 32, 33, 34, 35, 31 if 31 not in cells else 30}


def test_padding_changes_nothing() -> None:
    seen = seen_of(pad=(2, 0))
    assert seen.hidden is not None
    other = dataclasses.replace(seen, hidden=seen.hidden.masked_fill(~seen.valid[..., None], 1e6))
    for method in (PRUNE, PLUS):
        a, b = method.keep(seen, 50), method.keep(other, 50)
        assert a.hidden is not None
        assert b.hidden is not None
        assert a.hidden.equal(b.hidden)


def test_fields_outside_their_range_are_refused() -> None:
    with pytest.raises(MethodError, match="neighbours"):
        PruMerge(neighbours=0)
    with pytest.raises(MethodError, match="grid"):
        PruMergePlus(grid=1.5)
