"""Gated cross-attention is its formula, places are around the middle, and layers stand at even depths."""

from __future__ import annotations

import pytest
import torch

from herovlm.errors import UsageError
from herovlm.modules.cross_attention import FRACTIONS, GatedCrossAttention, Memory, Shape, even, spots

SHAPE = Shape(hidden=12, layers=(0,), width=8, heads=2, inner=6)


def part(gate: float = 0.7) -> GatedCrossAttention:
    torch.manual_seed(0)
    made = GatedCrossAttention(SHAPE).requires_grad_(False)
    for name, weight in made.named_parameters():
        weight.fill_(gate) if name.endswith("gate") else weight.add_(torch.randn_like(weight) * 0.3)
    return made


def memory(*lengths: int) -> Memory:
    draw = torch.Generator().manual_seed(1)
    return Memory.of([(torch.randn(n, 12, generator=draw), torch.rand(n, 3, generator=draw) * 2 - 1) for n in lengths])


def test_it_is_its_formula_for_each_token_and_head() -> None:
    own, mind, hidden = part(), memory(5, 3), torch.randn(2, 4, 12)
    known = own.remember(mind)
    found, shares = own(hidden, known)
    for row, length in enumerate((5, 3)):
        for token in range(4):
            query = own.query(own.norm(hidden[row, token])).view(2, 4)
            read = []
            for head in range(2):
                keys, values = known.keys[row, head, :length], known.values[row, head, :length]
                scores = torch.cat([keys @ own.query_norm(query[head]) / 2, own.nothing[head, None]])  # 2 = sqrt(4)
                share = scores.softmax(0)[:-1]
                assert torch.allclose(shares[row, head, token, :length], share, atol=1e-6)
                assert not shares[row, head, token, length:].any()
                read.append(share @ values)
            state = hidden[row, token] + torch.tanh(own.gate) * own.out(torch.cat(read))
            normed = own.mlp_norm(state)
            wide = torch.nn.functional.silu(own.wide(normed)) * own.up(normed)
            state = state + torch.tanh(own.mlp_gate) * own.down(wide)
            assert torch.allclose(found[row, token], state, atol=1e-5)


def test_a_memory_has_no_order_and_its_padding_no_say() -> None:
    own, mind, hidden = part(), memory(6, 2), torch.randn(2, 3, 12)
    turned = torch.randperm(6, generator=torch.Generator().manual_seed(2))
    other = Memory(mind.states[:, turned], mind.places[:, turned], mind.real[:, turned])
    found = own(hidden, own.remember(mind))[0]
    assert torch.allclose(own(hidden, own.remember(other))[0], found, atol=1e-5)
    noisy = torch.where(mind.real[..., None], mind.states, torch.tensor(99.0))
    assert torch.equal(own(hidden, own.remember(Memory(noisy, mind.places, mind.real)))[0], found)
    moved = Memory(mind.states, mind.places.flip(1), mind.real)
    assert not torch.allclose(own(hidden, own.remember(moved))[0][0], found[0], atol=1e-3), "places count"


def test_gates_learn_first_and_all_else_once_they_are_open() -> None:
    for gate, moved in ((0.0, {"gate", "mlp_gate"}), (0.5, None)):
        own = part(gate).requires_grad_(True)
        own(torch.randn(1, 3, 12), own.remember(memory(4)))[0].square().sum().backward()
        nonzero = {name for name, weight in own.named_parameters() if weight.grad is not None and weight.grad.any()}
        assert nonzero == (moved or {name for name, _ in own.named_parameters()})


@pytest.mark.parametrize("depth", range(4, 81))
def test_layers_are_four_and_even(depth: int) -> None:
    layers = even(depth)
    assert list(layers) == sorted({*layers})
    assert len(layers) == 4
    assert layers[0] >= 0
    assert layers[-1] < depth
    assert all(abs(layer - share * depth) <= 0.5 for layer, share in zip(layers, FRACTIONS, strict=True))


def test_places_are_around_the_middle() -> None:
    at = spots((2, 3), 4)  # (7, 16, 3)
    assert at.shape == (7, 16, 3)
    assert at[0, :, 2].eq(1).all()
    assert at[1:, :, 2].eq(0).all()
    for part_ in (at[0], at[1:].flatten(0, 1)):
        assert torch.allclose(part_[:, :2].mean(0), torch.zeros(2), atol=1e-6)
        assert len(part_[:, :2].unique(dim=0)) == len(part_)
    assert torch.allclose(at[1, 0, :2], torch.tensor([-11 / 12, -7 / 8]))  # first of 12 columns, of 8 rows
    assert torch.allclose(at[6, 15, :2], torch.tensor([11 / 12, 7 / 8]))
    assert torch.equal(spots((2, 3), 4, overview=False), at[1:])


@pytest.mark.parametrize(
    "wrong", [{"width": 9}, {"heads": 3}, {"layers": ()}, {"layers": (2, 1)}, {"layers": (-1, 1)}, {"inner": 0}]
)
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected"):
        Shape(**{"hidden": 12, "layers": (0,), "width": 8, "heads": 2, "inner": 6, **wrong})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="3 layers"):
        even(3)
