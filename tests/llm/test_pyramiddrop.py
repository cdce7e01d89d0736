"""PyramidDrop: ranked by the query and the keys that the next layer will make."""

from __future__ import annotations

import torch

from herovlm.methods.inside.pyramiddrop import PyramidDrop
from herovlm.types import SeenInside


def test_keys_along_the_query_of_the_last_token_stay() -> None:
    keys = torch.zeros(2, 7, 4)  # two groups of two heads each
    keys[0, 2, 0], keys[1, 4, 1], keys[0, 3, 3] = 9.0, 5.0, 20.0
    query = torch.zeros(4, 4)
    query[0, 0], query[1, 0], query[2, 1], query[3, 1] = 2.0, 2.0, 2.0, 2.0
    look = SeenInside(1, 4, torch.tensor([1, 2, 3, 4]), torch.zeros(4, dtype=torch.long), (2,), ahead=(query, keys))
    assert PyramidDrop().cut(look).keep.tolist() == [1, 3]
    assert PyramidDrop().cut(look).positions == "true"
    assert PyramidDrop(positions="code").cut(look).positions == "after"


def test_each_cut_leaves_a_share_of_what_was_there() -> None:
    assert PyramidDrop().plan(577, 32) == {8: 288, 16: 144, 24: 72}
    assert PyramidDrop(keep=0.6).plan(100, 32) == {8: 60, 16: 36, 24: 21}  # rounded down
    assert PyramidDrop(layers=(3, 5), ratios=(0.7, 0.2)).plan(10, 6) == {3: 7, 5: 2}
    assert PyramidDrop().plan(3, 32) == {8: 1, 16: 1, 24: 1}, "one is always left"


def test_alone_the_share_is_found_from_the_mean() -> None:
    plan = PyramidDrop().plan(1000, 4, mean=468.75)
    assert plan == {1: 500, 2: 250, 3: 125}  # (1000 + 500 + 250 + 125) / 4
    assert PyramidDrop(ratios=(0.9, 0.8, 0.7)).plan(1000, 4, mean=468.75) == {1: 900, 2: 800, 3: 700}
