from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen

from herovlm.errors import MethodError
from herovlm.methods.scope import ScopePrune
from herovlm.ops import coverage, diversity
from herovlm.types import Needs, Seen

SCOPE = ScopePrune()


def one_tile(hidden: torch.Tensor, attention: torch.Tensor) -> Seen:
    """One tile of 16 patches with these states (16, C), looked at by two heads."""
    seen = make_seen(0, 0, 4, newlines=False)
    return dataclasses.replace(seen, hidden=hidden[None], attention={4: attention.expand(1, 2, 16) / 2})


def random_states(channels: int = 5) -> torch.Tensor:
    return torch.randn(16, channels, generator=torch.Generator().manual_seed(0))


def order(method: ScopePrune, seen: Seen, count: int = 16) -> list[int]:
    """Patches of one tile in the order of the picks."""
    return method.keep(seen, min(count, 15)).why["score"][0].argsort(descending=True)[:count].tolist()


def test_it_asks_for_attention_and_for_the_states_it_compares() -> None:
    assert SCOPE.needs(24) == Needs((22,), hidden=True)


@pytest.mark.parametrize(("alpha", "combine"), [(1.0, "product"), (2.0, "product"), (0.5, "sum")])
def test_each_pick_is_the_best_of_attention_and_gain_in_coverage(alpha: float, combine: str) -> None:
    attention = torch.linspace(0.01, 2, 16)[torch.randperm(16, generator=torch.Generator().manual_seed(1))]
    seen, best = one_tile(random_states(), attention), torch.zeros(16)
    picks = order(ScopePrune(alpha=alpha, combine=combine), seen, 12)  # type: ignore[arg-type]
    similar = diversity.cosines(random_states())
    for k, pick in enumerate(picks):
        gain = (similar - best).clamp(min=0).sum(1)
        value = attention**alpha * gain if combine == "product" else attention**alpha + gain
        value[picks[:k]] = -1
        assert value[pick] >= value.max() - 1e-5
        best = best.maximum(similar[pick])


def test_without_attention_it_covers_and_nothing_else() -> None:
    similar = diversity.cosines(random_states())
    seen = one_tile(random_states(), torch.rand(16, generator=torch.Generator().manual_seed(2)))
    assert order(ScopePrune(alpha=0), seen, 8) == coverage.order(similar[None], 8)[0, :8].tolist()
    assert order(SCOPE, seen, 8) != order(ScopePrune(alpha=0), seen, 8)


def test_a_repetition_of_a_pick_is_not_picked_however_much_it_is_looked_at() -> None:
    states, attention = torch.eye(16), torch.linspace(2, 1, 16)
    states[1] = states[0]
    attention[:2] = 50
    picks = order(SCOPE, one_tile(states, attention), 15)
    assert picks[0] == 0
    assert 1 not in picks


def test_padding_covers_nothing_and_need_not_be_covered() -> None:
    seen = make_seen(2, 1, 6, (2, 1), newlines=False)
    assert seen.hidden is not None
    other = seen.hidden.masked_fill(~seen.valid[..., None], 7.0)
    kept = [SCOPE.keep(dataclasses.replace(seen, hidden=h), 30) for h in (seen.hidden, other)]
    assert kept[0].mask.equal(kept[1].mask)


def test_tiles_are_independent_unless_asked() -> None:
    seen = make_seen(1, 2, 4, newlines=False)
    assert seen.hidden is not None
    same = dataclasses.replace(
        seen,
        hidden=seen.hidden[:1].expand(3, -1, -1).contiguous(),
        attention={4: seen.attention[4][:1].expand(3, -1, -1).contiguous()},
    )
    mask = SCOPE.keep(same, 15).mask
    assert mask[0].equal(mask[1])
    assert mask[0].equal(mask[2])
    assert ScopePrune(scope="image").keep(same, 15).mask.sum(0).max() == 1


def test_a_negative_exponent_is_refused() -> None:
    with pytest.raises(MethodError, match="alpha"):
        ScopePrune(alpha=-1)
