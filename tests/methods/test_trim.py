from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen

from herovlm.methods.trim import Trim
from herovlm.types import Needs, Seen

TRIM, ADAPTIVE = Trim(), Trim(variant="adaptive")


def asked(dots: torch.Tensor, pad: tuple[int, int] = (0, 0)) -> Seen:
    """Tiles of 16 patches side by side with these products, (T, 16)."""
    seen = make_seen(min(1, len(dots) - 1), len(dots) - 1, 4, pad, newlines=False, needs=TRIM.needs(6))
    return dataclasses.replace(seen, dots=dots)


def test_it_asks_for_products_and_for_the_states_it_averages() -> None:
    assert TRIM.needs(24) == Needs(dots=True, hidden=True)


def test_what_points_away_from_the_question_stays_and_the_others_are_one_mean() -> None:
    seen = asked(torch.arange(16.0)[None])
    kept = TRIM.keep(seen, 6)
    assert seen.hidden is not None
    assert kept.hidden is not None
    assert kept.mask[0].tolist() == [True] * 6 + [False] * 10  # the sixth is the cell of the others
    assert kept.hidden[:5].equal(seen.hidden[0, :5])
    torch.testing.assert_close(kept.hidden[5], seen.hidden[0, 5:].mean(0))


def test_products_so_large_that_a_softmax_rounds_to_zero_are_still_ranked() -> None:
    dots = 100 * torch.randperm(16, generator=torch.Generator().manual_seed(0))[None].float()
    kept = TRIM.keep(asked(dots), 9)
    assert kept.mask[0].equal(dots[0] < 900)
    assert (kept.why["score"] == 0).sum() > 9
    assert kept.why["score"].sum() == 1


def test_a_tile_kept_whole_is_left_alone_and_padding_is_in_no_mean() -> None:
    seen = asked(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)), (1, 0))
    assert seen.hidden is not None
    kept = TRIM.keep(seen, seen.positions - 1)
    whole = kept.granted == seen.valid.sum(1)
    assert whole.any()
    assert kept.hidden is not None
    values = torch.zeros_like(seen.hidden).masked_scatter(kept.mask[..., None], kept.hidden)
    assert values[whole].equal((seen.hidden * seen.valid[..., None])[whole])
    noise = dataclasses.replace(seen, hidden=seen.hidden.masked_fill(~seen.valid[..., None], 1e6))
    other = TRIM.keep(noise, 12)
    assert other.hidden is not None
    assert other.hidden.equal(TRIM.keep(seen, 12).hidden)  # type: ignore[arg-type]


@pytest.mark.parametrize("high", [0, 1, 3])
def test_adaptive_keeps_the_share_of_outliers_and_one_more_at_any_budget(high: int) -> None:
    dots = torch.linspace(0, 0.1, 32).view(2, 16)
    dots.view(-1)[:high] = -3.0  # all in the first tile; the share is that of both
    seen = asked(dots)
    for budget in (2, 9, 30):
        assert ADAPTIVE.keep(seen, budget).granted.tolist() == [high * 16 // 32 + 1] * 2
    assert not ADAPTIVE.exact
