"""Layers are suggested where a tower has two stages, and with no confidence where it has not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples
from stages import one_stage, two_stages

from herovlm.study.layers import parted, silhouettes, suggest_layers


@pytest.mark.parametrize(("depth", "switch"), [(12, 5), (12, 9), (24, 16), (6, 2), (4, 2)])
def test_a_planted_switch_is_found(depth: int, switch: int) -> None:
    found = suggest_layers(*two_stages(depth, switch))
    assert found is not None
    assert found.switch == switch
    assert max(found.low) < switch <= min(found.high)
    assert len(found.low) == 2
    assert len(found.high) == 1
    assert found.confidence > 0.9


def test_a_tower_without_stages_is_not_trusted() -> None:
    found = suggest_layers(*one_stage(12))
    assert found is not None
    assert found.confidence < 0.2


def test_norms_that_fall_are_not_artifact_tokens() -> None:
    overlap, norms = two_stages(12, 8)
    found, turned = suggest_layers(overlap, norms), suggest_layers(overlap, 1 - norms)
    assert found is not None
    assert turned is not None
    assert turned.switch == found.switch
    assert (turned.agreement, turned.confidence) == (0.0, 0.0)


def test_the_most_typical_blocks_are_suggested() -> None:
    overlap, norms = two_stages(12, 7, noise=0.0)
    for block in (2, 10):  # strangers in their own stage
        overlap[:, block, :] = overlap[:, :, block] = 0.4
        overlap[:, block, block] = 1.0
    found = suggest_layers(overlap, norms, low=6, high=4)
    assert found is not None
    assert 2 not in found.low
    assert 10 not in found.high


def test_silhouettes_of_a_known_case() -> None:
    distance = np.array([[0, 0.2, 0.8, 0.8], [0.2, 0, 0.8, 0.8], [0.8, 0.8, 0, 0.4], [0.8, 0.8, 0.4, 0]])
    assert silhouettes(distance, 2) == pytest.approx([0.75, 0.75, 0.5, 0.5])
    assert parted(1 - distance)[0] == 2


def test_silhouettes_are_those_of_scikit_learn() -> None:
    distance = np.random.default_rng(1).random((12, 12))
    distance = np.triu(distance, 1) + np.triu(distance, 1).T
    for switch in range(2, 11):
        theirs = silhouette_samples(distance, np.arange(12) >= switch, metric="precomputed")
        assert silhouettes(distance, switch) == pytest.approx(theirs)


def test_nothing_is_suggested_from_nothing() -> None:
    assert suggest_layers(np.zeros((0, 12, 12)), np.zeros((0, 12))) is None
    assert suggest_layers(*two_stages(3, 1)) is None


def test_the_order_of_pictures_is_nothing_to_the_switch() -> None:
    overlap, norms = two_stages(12, 6)
    one, other = suggest_layers(overlap, norms), suggest_layers(overlap[::-1], norms[::-1])
    assert one is not None
    assert other is not None
    assert (one.switch, one.low, one.high) == (other.switch, other.low, other.high)
    assert one.as_dict()["low"] == list(one.low)
