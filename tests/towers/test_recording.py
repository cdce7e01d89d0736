"""CLS rows: what eager attention would have returned, with sdpa in use and no trace left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from made_towers import make_tower, pixels
from torch import nn

from herovlm.errors import ModelError, UnsupportedError
from herovlm.towers.recording import attention_blocks, cls_rows


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_rows_are_those_of_eager_attention(attention: str, dtype: torch.dtype, atol: float) -> None:
    eager, tower = make_tower("eager").to(dtype), make_tower(attention).to(dtype)
    want = eager(pixels().to(dtype), output_attentions=True).attentions
    with cls_rows(tower, (3, 1)) as rows:
        plain = tower(pixels().to(dtype)).last_hidden_state
    assert sorted(rows) == [1, 3]
    for block, row in rows.items():
        assert row.dtype == torch.float32
        assert row.shape == (3, 4, 16)
        torch.testing.assert_close(row, want[block][:, :, 0, 1:].float(), atol=atol, rtol=0)
        assert (row.sum(-1) < 1).all()  # the CLS key is dropped, the rest not renormalised
    assert torch.equal(plain, tower(pixels().to(dtype)).last_hidden_state)


def hooks(tower: nn.Module) -> int:
    return sum(len(part._forward_hooks) for block in attention_blocks(tower) for part in block.children())


def test_hooks_are_gone_also_after_an_error() -> None:
    tower = make_tower()
    with cls_rows(tower, (0, 2)) as _:
        assert hooks(tower) == 4  # this count can see them
        tower(pixels())
    assert hooks(tower) == 0
    with pytest.raises(RuntimeError, match="boom"), cls_rows(tower, (0, 2)):
        raise RuntimeError("boom")
    assert hooks(tower) == 0


def test_a_tower_that_does_not_call_its_hooks_is_an_error() -> None:
    tower = make_tower()
    with pytest.raises(UnsupportedError, match=r"blocks \[2\].*torch.compile"), cls_rows(tower, (2,)):
        pass
    assert hooks(tower) == 0


def test_a_compiled_tower_is_an_error() -> None:
    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj, self.k_proj, self.num_heads = nn.Linear(4, 4), nn.Linear(4, 4), 2

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return self.q_proj(states) + self.k_proj(states)

    tower, states = Tower(), torch.randn(1, 3, 4)
    with cls_rows(tower, (0,)) as rows:
        tower(states)
    assert rows[0].shape == (1, 2, 2)
    tower.compile(backend="eager")
    tower(states)
    with pytest.raises(UnsupportedError, match=r"torch\.compile"), cls_rows(tower, (0,)):
        tower(states)
    tower(states)


def test_a_tower_of_another_kind_is_an_error() -> None:
    with pytest.raises(ModelError, match="q_proj"):
        attention_blocks(nn.Sequential(nn.Linear(2, 2)))


def test_key_before_query_is_the_same() -> None:
    """The row must not depend on which projection a block calls first."""

    class Swapped(nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.q_proj, self.k_proj, self.num_heads = inner.q_proj, inner.k_proj, inner.num_heads

        def forward(self, states: torch.Tensor, first: str) -> None:
            for part in sorted(("q_proj", "k_proj"), reverse=first == "q"):
                getattr(self, part)(states)

    block = Swapped(attention_blocks(make_tower())[0])
    states, found = torch.randn(2, 17, 32), []
    for first in "qk":
        with cls_rows(block, (0,)) as rows:
            block(states, first)
        found.append(rows[0])
    assert torch.equal(*found)
