from __future__ import annotations

import pytest
import torch

from herovlm.ops import diversity, removal


def slowly(cosine: torch.Tensor, start: int, count: int, step: int) -> set[int]:
    """The removal in plain loops, for one count."""
    left = list(range(start, len(cosine)))
    while len(left) > count:
        first, second = left[0::2], left[1::2]
        alike = {a: max(float(cosine[a, b]) for b in second) for a in first}
        first.sort(key=lambda a: -alike[a])
        left = first[min(step, len(left) - count) :] + second
    return set(left)


@pytest.mark.parametrize(("n", "start", "step"), [(20, 4, 3), (17, 2, 8), (9, 0, 1), (2, 1, 8), (3, 3, 2)])
def test_one_order_of_removal_serves_every_count(n: int, start: int, step: int) -> None:
    alike = diversity.cosines(torch.randn(1, n, 6, generator=torch.Generator().manual_seed(n)))
    order = removal.duplicates(alike, [start], [n], step)[0].tolist()
    assert order[:start] == list(range(start))
    assert sorted(order) == list(range(n))
    for count in range(1, n - start + 1):
        assert set(order[start : start + count]) == slowly(alike[0], start, count, step)


def test_every_tile_has_its_own_start_and_end_as_if_it_were_alone() -> None:
    alike = diversity.cosines(torch.randn(5, 24, 6, generator=torch.Generator().manual_seed(0)))
    starts, ends = [3, 0, 5, 2, 24], [24, 9, 14, 2, 24]
    order = removal.duplicates(alike, starts, ends, 3)
    for t, (start, end) in enumerate(zip(starts, ends, strict=True)):
        alone = removal.duplicates(alike[t : t + 1, :end, :end], [start], [end], 3)[0]
        assert order[t, :end].equal(alone)
        assert order[t, end:].tolist() == list(range(end, 24))
