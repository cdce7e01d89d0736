from __future__ import annotations

import pytest
import torch

from herovlm.errors import MethodError
from herovlm.ops import keys

G = torch.Generator().manual_seed(0)


def test_a_block_that_was_not_recorded_is_named() -> None:
    with pytest.raises(MethodError, match=r"block 3 .* \[1\]"):
        keys.of({1: torch.zeros(1)}, 3)
    with pytest.raises(MethodError, match="block 1"):
        keys.cls_products({1: torch.zeros(1, 1, 3)}, {}, 1)


def test_products_are_of_each_tile_with_its_own_query() -> None:
    k, q = torch.randn(3, 5, 4, generator=G), torch.randn(3, 4, generator=G)
    both = torch.stack([q, k[:, 0]], 1)
    found = keys.cls_products({2: k[:, 1:].bfloat16()}, {2: both.bfloat16()}, 2)
    assert found.dtype == torch.float32
    for t in range(3):
        torch.testing.assert_close(found[t], k[t].bfloat16().float() @ q[t].bfloat16().float())


def collected(pool: list[int], count: int) -> torch.Tensor:
    """Centre 0 looks along x; the others are turned away by more and more, and are longer and longer."""
    turn = torch.arange(4) * 0.3
    long = torch.stack([turn.cos(), turn.sin()], 1) * torch.arange(1, 5)[:, None]
    weight = torch.tensor([0.1, 0.2, 0.4, 0.8])
    return keys.collect(torch.eye(4), long, weight, torch.tensor([0]), torch.tensor(pool), count)[0]


@pytest.mark.parametrize(
    ("pool", "count", "expected"),
    [
        ([1, 1, 1, 1], 1, [1, 0.2, 0, 0]),  # the nearest by direction, not by product, and not itself
        ([1, 1, 1, 1], 2, [1, 0.2, 0.4, 0]),
        ([1, 1, 1, 1], 9, [1, 0.2, 0.4, 0.8]),  # all there are
        ([1, 0, 1, 1], 2, [1, 0, 0.4, 0.8]),  # one that cannot be collected
        ([1, 2, 1, 1], 2, [1, 0.4, 0, 0]),  # one that is there twice fills two places
        ([2, 1, 1, 1], 2, [1.1, 0.2, 0, 0]),  # a centre that is there twice collects its double
    ],
)
def test_a_centre_collects_its_nearest(pool: list[int], count: int, expected: list[float]) -> None:
    torch.testing.assert_close(collected(pool, count), torch.tensor(expected))
