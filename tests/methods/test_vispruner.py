from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen

from herovlm.errors import MethodError
from herovlm.methods.fastervlm import FasterVlm
from herovlm.methods.vispruner import VisPruner
from herovlm.types import Needs, Seen


def test_it_asks_for_attention_and_for_the_states_it_compares() -> None:
    assert VisPruner().needs(24) == Needs((22,), hidden=True)


def test_all_important_is_fastervlm() -> None:
    seen = make_seen(2, 2, 5, (2, 0))
    for budget in (20, 50):
        assert VisPruner(important=1).keep(seen, budget).mask.equal(FasterVlm().keep(seen, budget).mask)


def one_tile(hidden: torch.Tensor) -> Seen:
    """One tile of 16 patches in order of attention with these states, (16, C)."""
    seen = make_seen(0, 0, 4, newlines=False)
    return dataclasses.replace(seen, hidden=hidden[None], attention={4: torch.linspace(0.9, 0.1, 16).view(1, 1, 16)})


def test_important_patches_stay_and_of_the_rest_each_state_stays_once() -> None:
    states = torch.eye(12)
    rest = torch.cat([states[4:8].repeat_interleave(2, 0), states[8:]])
    kept = VisPruner(important=0.34).keep(one_tile(torch.cat([states[:4], rest])), 12)  # 4 important, 8 of the rest
    assert kept.mask[0, :4].all()
    assert kept.mask[0, 4:12].view(4, 2).sum(1).tolist() == [1] * 4
    assert kept.mask[0, 12:].all()


def test_the_number_of_important_patches_is_rounded_down() -> None:
    alike = one_tile(torch.ones(16, 3))  # the first that is not important goes first
    lost = [int((~VisPruner().keep(alike, n).mask[0]).int().argmax()) for n in (5, 7, 9)]
    assert lost == [2, 3, 4]


def test_padding_is_not_compared() -> None:
    seen = make_seen(2, 1, 6, (2, 1), newlines=False)
    assert seen.hidden is not None
    other = seen.hidden.masked_fill(~seen.valid[..., None], 7.0)
    kept = [VisPruner().keep(dataclasses.replace(seen, hidden=h), 30) for h in (seen.hidden, other)]
    assert kept[0].mask.equal(kept[1].mask)


@pytest.mark.parametrize("fields", [{"important": 1.2}, {"important": -0.1}, {"step": 0}])
def test_fields_have_ranges(fields: dict[str, float]) -> None:
    with pytest.raises(MethodError, match="expected"):
        VisPruner(**fields)  # type: ignore[arg-type]
