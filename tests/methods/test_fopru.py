from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen
from torch import Tensor

from herovlm.errors import MethodError
from herovlm.methods.fopru import FoPru
from herovlm.types import Needs, Seen

ROWS = FoPru(strategy="row", layer=0)


def one_tile(scores: Tensor, valid: Tensor | None = None) -> Seen:
    """One tile whose patches receive these scores, (side, side)."""
    seen = make_seen(0, 0, len(scores), newlines=False)
    valid = torch.ones_like(scores, dtype=torch.bool) if valid is None else valid
    return dataclasses.replace(seen, received={0: scores.reshape(1, -1).float()}, valid=valid.reshape(1, -1))


def test_it_asks_for_the_attention_it_reads() -> None:
    assert FoPru().needs(24) == Needs(received=(22,))
    assert FoPru(significance="cls").needs(24) == Needs((22,))
    with pytest.raises(MethodError, match=r"received in blocks \[4\]"):
        FoPru(layer=4).keep(dataclasses.replace(make_seen(0, 0, 4), received={}), 5)


def test_each_significance_is_its_own_signal() -> None:
    seen = make_seen(0, 0, 6)
    for method, scores in (
        (FoPru(), seen.received[4][0]),
        (FoPru(significance="cls"), seen.attention[4][0].mean(0)),
    ):
        assert method.keep(seen, 9).mask[0].nonzero()[:, 0].equal(scores.topk(9).indices.sort().values)


def test_rows_go_whole_and_the_last_is_filled_with_its_best() -> None:
    scores = torch.tensor([[1, 1, 1, 1], [0, 9, 0, 0], [5, 4, 6, 3], [2, 2, 3, 0]])  # sums 4, 9, 18, 7
    kept = [ROWS.keep(one_tile(scores), n).mask.view(4, 4).int().tolist() for n in (4, 6, 10)]
    assert kept[0] == [[0] * 4, [0] * 4, [1] * 4, [0] * 4]
    assert kept[1] == [[0] * 4, [1, 1, 0, 0], [1] * 4, [0] * 4]
    assert kept[2] == [[0] * 4, [1] * 4, [1] * 4, [1, 0, 1, 0]]


def test_padding_adds_nothing_to_its_row() -> None:
    scores = torch.tensor([[9, 1, 1], [4, 2, 2], [0, 0, 0]])
    valid = torch.tensor([[False, True, True], [True, True, True], [False, False, False]])
    kept = ROWS.keep(one_tile(scores, valid), 3)
    assert kept.mask.view(3, 3).int().tolist() == [[0] * 3, [1] * 3, [0] * 3]


def test_one_contest_ranks_the_rows_of_all_tiles() -> None:
    seen = make_seen(1, 2, 3, newlines=False)
    loud = torch.arange(27.0).view(3, 9)
    seen = dataclasses.replace(seen, received={0: loud})
    assert dataclasses.replace(ROWS, scope="image").keep(seen, 12).granted.tolist() == [0, 3, 9]
    assert ROWS.keep(seen, 12).granted.tolist() == [4, 4, 4]
