"""ViTCoP inside the language model: the authors' budgets, clusters that merge, short keys that stay."""

from __future__ import annotations

import pytest
import torch

from herovlm.errors import BudgetError
from herovlm.methods.inside.vitcop import VitCopLlm
from herovlm.types import SeenInside


@pytest.mark.parametrize(
    ("ratio", "encoder", "sent", "left"),
    [(0.3333, 0.5, 288, (253, 51)), (0.2222, 0.4, 230, (165, 33)), (0.1111, 0.3, 172, (77, 15))],
)
def test_the_authors_settings(ratio: float, encoder: float, sent: int, left: tuple[int, int]) -> None:
    assert VitCopLlm(keep=ratio / encoder).plan(sent, 32) == dict(zip((2, 22), left, strict=True))


def test_keep_is_the_mean_over_the_layers() -> None:
    for depth in (24, 32, 40):
        (shallow, first), (deep, second) = VitCopLlm(keep=0.4).plan(1000, depth).items()
        mean = (1000 * shallow + first * (deep - shallow) + second * (depth - deep)) / depth
        assert abs(mean - 400) < 1
    with pytest.raises(BudgetError, match=r"keep > 0\.0625"):
        VitCopLlm(keep=0.06).plan(1000, 32)


def look(layer: int, granted: int) -> SeenInside:
    """One image of two clusters: key lengths 1 2 3 4 | 5 6, and one head cancelling half of it."""
    keys = torch.zeros(2, 8, 3)
    keys[0, 1:7, 0] = 4 * torch.arange(1.0, 7.0)
    keys[1, 1:7, 0] = -2 * torch.arange(1.0, 7.0)  # heads are averaged before the length is taken
    groups = torch.tensor([7, 7, 7, 7, -1, -1])
    return SeenInside(
        layer, 32, torch.arange(1, 7), torch.zeros(6, dtype=torch.long), (granted,), keys=keys, groups=groups
    )


def test_a_cluster_keeps_its_shortest_keys_and_merges_the_rest() -> None:
    cut = VitCopLlm().cut(look(2, 4))  # (4 - 2 clusters) kept: 1.5 -> 2 of four, 0.5 -> 0 of two
    assert cut.merged is not None
    assert cut.weights is not None
    assert cut.keep.tolist() == [0, 1, 3, 5]
    assert cut.merged.tolist() == [False, False, True, True]
    assert cut.weights.tolist() == [[0, 0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 0.5, 0.5]]
    code = VitCopLlm(merge="code").cut(look(2, 4)).weights
    assert code is not None
    assert code.tolist() == [[0, 0, 0.5, 1.5, 0, 0], [0, 0, 0, 0, 0.5, 1.5]]


def test_at_the_deep_cut_the_shortest_keys_stay() -> None:
    cut = VitCopLlm().cut(look(22, 2))
    assert cut.keep.tolist() == [0, 1]
    assert cut.merged is None
    assert VitCopLlm(positions="code").cut(look(22, 2)).positions == "before"
