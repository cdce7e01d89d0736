"""Probes read what is there, and nothing where nothing is; pictures are never on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from grids import make_seen

from herovlm.study.measure import probes
from herovlm.study.measure.foreground import Shown
from herovlm.study.measure.probes import PROBES, Tokens

STAGES = {"early": (0,), "late": (5,)}


def made(states: Any, **fields: Any) -> Tokens:
    """Tokens of 20 pictures."""
    count = len(states)
    empty = {
        "local": np.ones(count, bool),
        "shape": np.zeros(count),
        "digit": np.zeros(count),
        "count": np.zeros(count),
    }
    return Tokens(states=states, picture=np.arange(count) % 20, **{**empty, **fields})


def test_a_class_that_is_written_in_the_states_is_read() -> None:
    rng = np.random.default_rng(0)
    shape = rng.integers(0, 4, 400)
    states = rng.normal(size=(400, 12))
    states[np.arange(400), shape] += 8
    found = probes.probe(made(states, shape=shape), PROBES["class"])
    assert found is not None
    assert found["score"] > 0.95
    assert found["low"] <= found["score"] <= found["high"]
    assert found["tokens"] == 400


def test_noise_is_read_at_chance() -> None:
    rng = np.random.default_rng(1)
    shape = rng.integers(0, 4, 400)
    found = probes.probe(made(rng.normal(size=(400, 12)), shape=shape), PROBES["class"])
    assert found is not None
    assert 0.15 < found["score"] < 0.36


def test_a_number_that_is_written_in_the_states_is_read() -> None:
    rng = np.random.default_rng(2)
    count = rng.integers(1, 9, 300)
    states = np.concatenate([rng.normal(size=(300, 5)), count[:, None] + 0.1 * rng.normal(size=(300, 1))], 1)
    tokens = made(states, count=count, local=np.zeros(300, bool))
    found = probes.probe(tokens, PROBES["count"])
    assert found is not None
    assert found["score"] > 0.95
    noise = probes.probe(made(rng.normal(size=(300, 6)), count=count, local=np.zeros(300, bool)), PROBES["count"])
    assert noise is not None
    assert noise["score"] < 0.1


def test_what_only_names_the_picture_does_not_help() -> None:
    """Each picture has a state and a class of its own: a probe that had seen the picture would be right."""
    picture = np.arange(400) % 20
    shape = np.random.default_rng(3).integers(0, 2, 20)[picture]
    found = probes.probe(made(np.eye(20)[picture] * 5, shape=shape), PROBES["class"])
    assert found is not None
    assert found["score"] < 0.8


def test_digits_are_read_from_labels_only() -> None:
    rng = np.random.default_rng(4)
    digit = np.where(np.arange(400) < 200, rng.integers(0, 5, 400), -1)
    found = probes.probe(made(rng.normal(size=(400, 6)), digit=digit), PROBES["digit"])
    assert found is not None
    assert found["tokens"] == 200


def test_too_few_tokens_are_not_probed() -> None:
    assert probes.probe(made(np.zeros((10, 3)), shape=np.arange(10)), PROBES["class"]) is None
    assert probes.probe(made(np.zeros((100, 3))), PROBES["class"]) is None, "one class is no question"
    assert probes.probe(made(np.zeros((100, 3)), shape=np.arange(100) % 3), PROBES["count"]) is None, "none is global"


def test_every_stage_picks_as_many_tokens_of_each_tile_by_its_own_blocks() -> None:
    seen = make_seen(1, 2, 6, (1, 0))
    masks = probes.pick(seen, STAGES, 0)
    granted = (seen.valid.sum(1) * probes.SHARE).round()
    for name in probes.PICKED:
        assert torch.equal(masks[name].sum(1), granted.long())
        assert not (masks[name] & ~seen.valid).any()
    best = seen.attention[5].mean(1).masked_fill(~seen.valid, -1).argmax(1)
    assert masks["late"][range(3), best].all()
    assert not torch.equal(masks["early"], masks["late"])
    assert not torch.equal(masks["random"], probes.pick(seen, STAGES, 1)["random"])


@pytest.mark.parametrize("same", [True, False])
def test_tokens_are_those_that_were_picked(same: bool) -> None:
    seen = make_seen(1, 2, 6)
    assert seen.hidden is not None
    shape = torch.arange(seen.valid.numel()).view(seen.valid.shape)
    found, shared = probes.tokens(
        [(seen, Shown(shape, shape, 7))], {**STAGES, "late": STAGES["early" if same else "late"]}
    )
    assert (shared == 1.0) == same
    flat = seen.hidden.flatten(0, 1).numpy()
    for tokens in found.values():
        np.testing.assert_allclose(tokens.states, flat[tokens.shape])
        assert set(tokens.count) == {7}
        np.testing.assert_array_equal(tokens.local, tokens.shape >= 36)
