from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_grid, make_seen

from herovlm.errors import MethodError
from herovlm.methods.visionzip import VisionZip
from herovlm.types import Kept, Needs, Seen

ZIP = VisionZip(newlines="none")


def seen_of(pad: tuple[int, int] = (0, 0), seed: int = 0) -> Seen:
    return make_seen(2, 2, 6, pad, seed=seed, needs=ZIP.needs(6))


def hand_made() -> Seen:
    """One tile of nine: 1 and 4 are looked at; the others' keys (two heads of two channels) point at 0 or at 5."""
    attention = torch.tensor([0.0, 0.9, 0.1, 0.1, 0.8, 0.1, 0.1, 0.1, 0.1]).expand(1, 1, 9)
    turn = torch.tensor([0.0, 0, 0.3, 1.2, 0, 1.5, 1.4, 0.1, 1.3])
    mean = torch.stack([turn.cos(), turn.sin()], 1)  # (9, 2)
    apart = torch.linspace(5, -5, 9)[:, None]  # what the two heads do not agree on is larger, and averages out
    keys = torch.cat([mean + apart, mean - apart], 1)
    return Seen(
        make_grid(0, 0, 3),
        torch.ones(1, 9, dtype=torch.bool),
        attention={0: attention},
        keys={0: keys[None]},
        hidden=torch.eye(9)[None],
        depth=1,
        heads=2,
    )


def zipped(merge: str) -> Kept:
    return VisionZip(layer=0, contextual=0.5, merge=merge).keep(hand_made(), 4)  # type: ignore[arg-type]


def test_it_asks_for_one_block_and_for_the_states_before_the_projector() -> None:
    assert VisionZip().needs(24) == Needs((22,), keys=(22,), hidden=True)


@pytest.mark.parametrize(("merge", "whole"), [("centre + mean", 1.0), ("mean", None)])
def test_each_patch_joins_the_centre_with_the_nearest_key(merge: str, whole: float | None) -> None:
    kept = zipped(merge)
    assert kept.mask[0].nonzero()[:, 0].tolist() == [0, 1, 4, 5]  # rest 0 2 3 5 6 7 8, every third of which two
    assert kept.why["owner"][0].tolist() == [0, 1, 0, 5, 4, 5, 5, 0, 5]
    first, second = ([2, 7], 1 / 2), ([3, 6, 8], 1 / 3)
    for row, centre, (others, share) in ((0, 0, first), (3, 5, second)):
        expected = torch.zeros(9)
        expected[centre], expected[others] = 1, share
        if whole is None:  # the mean of centre and others
            expected = (expected > 0) / (1 + len(others))
        torch.testing.assert_close(kept.hidden[row], expected)


def test_dominant_patches_are_sent_as_they_are() -> None:
    seen = seen_of(pad=(2, 0))
    kept = ZIP.keep(seen, seen.positions // 3)
    assert seen.hidden is not None
    same = torch.zeros_like(kept.mask)
    same[kept.mask] = (kept.hidden == seen.hidden[kept.mask]).all(1)
    for score, alone, mask in zip(kept.why["score"], same, kept.mask, strict=True):
        assert 0 < alone.sum() < mask.sum()
        assert score[alone].min() > score[mask & ~alone].max()


def test_what_is_dropped_joins_a_contextual_token_of_its_tile_and_padding_joins_none() -> None:
    seen = seen_of(pad=(2, 0))
    owner, mask = (kept := ZIP.keep(seen, 40)).why["owner"], kept.mask
    assert ((owner >= 0) == seen.valid).all()
    assert mask.gather(1, owner.clamp(min=0))[seen.valid].all()
    assert (owner == torch.arange(36))[mask].all()


def test_padding_changes_nothing() -> None:
    seen = seen_of(pad=(2, 0))
    assert seen.hidden is not None
    noise = seen.hidden.masked_fill(~seen.valid[..., None], 1e6)
    keys = {b: k.masked_fill(~seen.valid[..., None], 7) for b, k in seen.keys.items()}
    kept, other = ZIP.keep(seen, 40), ZIP.keep(dataclasses.replace(seen, hidden=noise, keys=keys), 40)
    assert kept.hidden is not None
    assert other.hidden is not None
    assert kept.hidden.equal(other.hidden)


def test_no_contextual_tokens_is_plain_attention_and_nothing_else_an_even_walk() -> None:
    seen, other = seen_of(), seen_of(seed=1)
    plain = dataclasses.replace(ZIP, contextual=0.0).keep(seen, 60)
    assert plain.hidden is not None
    assert plain.hidden.equal(seen.hidden[plain.mask])  # type: ignore[index]
    walk = dataclasses.replace(ZIP, contextual=1.0)
    assert walk.keep(seen, 60).mask.equal(walk.keep(other, 60).mask)
    assert walk.keep(seen, 60).mask[0].nonzero()[:, 0].tolist() == list(range(0, 36, 3))


def test_of_64_tokens_ten_are_contextual() -> None:
    counts = VisionZip().merged(torch.tensor([63, 64, 127, 128, 191, 192]))
    assert counts.tolist() == [10, 10, 20, 20, 30, 30]


def test_every_tile_keeps_the_same_share_of_its_valid_patches() -> None:
    seen = seen_of(pad=(2, 0))
    kept = ZIP.keep(seen, 50)
    share = kept.granted / seen.valid.sum(1)
    assert share.max() - share.min() <= 1 / 24


@pytest.mark.parametrize("contextual", [-0.1, 1.1])
def test_a_share_outside_its_range_is_refused(contextual: float) -> None:
    with pytest.raises(MethodError, match="contextual"):
        VisionZip(contextual=contextual)


COUNTS = VisionZip(dominant=5, contextual=2)


def test_counts_are_those_of_every_tile_whatever_the_budget() -> None:
    seen = seen_of()
    for budget in (1, 40, 100):
        assert COUNTS.keep(seen, budget).granted.tolist() == [7] * 5
    assert not COUNTS.keep(seen, 40).newlines.any()
    assert COUNTS.keep(seen, 40, "all").newlines.all()
    assert not COUNTS.exact


def test_counts_choose_what_the_same_share_chooses() -> None:
    seen = seen_of()
    share = VisionZip(contextual=2 / 7, newlines="none").keep(seen, 35)
    kept = COUNTS.keep(seen, 35)
    assert kept.mask.equal(share.mask)
    assert kept.hidden is not None
    assert kept.hidden.equal(share.hidden)  # type: ignore[arg-type]


def test_a_tile_with_less_than_its_count_is_kept_whole_and_dominant_comes_first() -> None:
    seen = seen_of((5, 0))  # one row of every local tile is no padding
    kept = VisionZip(dominant=4, contextual=8).keep(seen, 10)
    assert kept.granted.tolist() == [12, 6, 6, 6, 6]
    owner = kept.why["owner"]
    assert owner[1:][seen.valid[1:]].equal(torch.arange(36).expand(4, -1)[seen.valid[1:]])


def test_two_counts_or_none() -> None:
    with pytest.raises(MethodError, match="whole number"):
        VisionZip(dominant=54)
    with pytest.raises(MethodError, match="dominant"):
        VisionZip(dominant=0, contextual=10)
