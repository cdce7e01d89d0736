from __future__ import annotations

import pytest
import torch

from herovlm.errors import MethodError
from herovlm.ops import score

ROWS = {b: torch.randn(3, 2, 9, generator=torch.Generator().manual_seed(b)).softmax(-1) for b in range(4)}


def test_the_score_is_the_mean_over_heads_and_layers() -> None:
    expected = (ROWS[1] + ROWS[3]).sum(1) / 4
    assert torch.allclose(score.cls_rows(ROWS, (1, 3)), expected)


def test_the_second_softmax_flattens_but_keeps_the_order_of_a_single_row() -> None:
    one = {0: ROWS[0][:, :1]}
    plain, again = score.cls_rows(one, (0,)), score.cls_rows(one, (0,), again=True)
    assert again.sum(-1).allclose(torch.ones(3))
    assert plain.argsort(-1).equal(again.argsort(-1))
    assert (again.amax(-1) / again.amin(-1) < plain.amax(-1) / plain.amin(-1)).all()


def test_half_precision_is_scored_in_float32() -> None:
    assert score.cls_rows({0: ROWS[0].half()}, (0,)).dtype == torch.float32


@pytest.mark.parametrize("layers", [(), (4,), (0, 7)])
def test_unrecorded_blocks_are_named(layers: tuple[int, ...]) -> None:
    with pytest.raises(MethodError, match="were recorded"):
        score.cls_rows(ROWS, layers)


def test_saliency_is_the_cosine_with_the_thumbnail() -> None:
    cls = torch.tensor([[1.0, 0.0], [0.0, 2.0], [5.0, 0.0], [-3.0, 0.0]])
    assert score.saliency(cls).allclose(torch.tensor([1.0, 0.0, 1.0, -1.0]))
    assert score.saliency(cls[:1]).shape == (1,)
