"""The greedy rule of three terms, against its definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from herovlm.ops import diversity, threefold

N = 40


def drawn(seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return diversity.cosines(torch.randn(N, 5, generator=g)), torch.rand(N, generator=g)


def order(similar: Tensor, relevance: Tensor, count: int, **how: Any) -> Tensor:
    """One contest."""
    return threefold.order(similar[None], relevance[None], count, **how)[0]


def by_definition(similar: Tensor, relevance: Tensor, count: int, alpha: float, lam: float, scale: str) -> list[int]:
    """Word by word: sets, and sums over those that are left."""
    similar, relevance = similar.double(), relevance.double()
    picks = [int(relevance.argmax())]
    while len(picks) < count:
        left = [i for i in range(len(relevance)) if i not in picks]
        best = similar[picks].amax(0)
        apart = torch.stack([1 - best[i] for i in left])
        gain = torch.stack([(similar[i, left] - best[left]).clamp(min=0).sum() for i in left])
        terms = []
        for term in (relevance[left], apart, gain):
            low, high = (0, term.mean()) if scale == "mean" else (term.min(), term.max() - term.min())
            terms.append((term - low) / high)
        picks.append(left[int((terms[0] + alpha * terms[1] + lam * terms[2]).argmax())])
    return picks


@pytest.mark.parametrize("scale", ["mean", "minmax"])
@pytest.mark.parametrize(("alpha", "lam"), [(0.5, 0.5), (2.0, 0.0), (0.0, 3.0), (0.0, 0.0)])
def test_it_is_its_definition(alpha: float, lam: float, scale: Any) -> None:
    similar, relevance = drawn()
    found = order(similar, relevance, 20, alpha=alpha, lam=lam, scale=scale)
    assert found[:20].tolist() == by_definition(similar, relevance, 20, alpha, lam, scale)
    assert found.sort().values.tolist() == list(range(N))


def test_relevance_alone_is_its_order_and_without_it_the_first_is_the_first() -> None:
    similar, relevance = drawn(1)
    plain = order(similar, relevance, N, alpha=0, lam=0)
    assert plain.equal(relevance.argsort(descending=True, stable=True))
    assert int(order(similar, torch.zeros(N), 9, alpha=1, lam=0)[0]) == 0


def test_what_repeats_a_pick_comes_last() -> None:
    similar, relevance = drawn(2)
    twins = torch.arange(N) % (N // 2)  # every row is there twice
    similar, relevance = similar[twins][:, twins], relevance[twins]
    found = order(similar, relevance, N // 2, alpha=5, lam=5)
    assert len({*twins[found[: N // 2]].tolist()}) == N // 2


def test_equal_terms_are_no_division_by_nothing() -> None:
    for scale in ("mean", "minmax"):
        found = order(torch.ones(4, 4), torch.zeros(4), 3, alpha=1, lam=1, scale=scale)  # type: ignore[arg-type]
        assert found.tolist() == [0, 1, 2, 3]


def test_what_is_given_stays_as_it_is() -> None:
    similar, relevance = drawn(3)
    before = similar.clone(), relevance.clone()
    order(similar, relevance, 7, alpha=1, lam=1)
    assert similar.equal(before[0])
    assert relevance.equal(before[1])
