from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen

from herovlm.errors import MethodError
from herovlm.methods.globalcom2 import GlobalCom2
from herovlm.ops.overview import stretched
from herovlm.types import Needs, Seen

COM = GlobalCom2(newlines="none")
OFFICIAL = GlobalCom2(variant="official")


def looking(logits: torch.Tensor, rows: int, cols: int, pad: tuple[int, int] = (0, 0)) -> Seen:
    """Tiles whose CLS logits are these, (T, N): one head of one channel."""
    seen = make_seen(rows, cols, round(logits.shape[1] ** 0.5), pad, needs=Needs())
    return dataclasses.replace(
        seen, keys={0: logits[..., None]}, queries={0: torch.ones(len(logits), 2, 1)}, depth=1, heads=1
    )


def hot(tile: int, by: float = 0.5) -> torch.Tensor:
    """Logits of 2 x 2 tiles of 36; the thumbnail looks at one quarter."""
    square = torch.zeros(2, 3, 2, 3)
    square[tile // 2, :, tile % 2] = by
    return torch.cat([square.view(1, 36), torch.randn(4, 36, generator=torch.Generator().manual_seed(0))])


def test_it_asks_for_the_keys_of_the_last_block() -> None:
    assert GlobalCom2().needs(24) == Needs(keys=(23,), queries=(23,))


def test_logits_are_the_mean_of_the_heads_before_the_softmax() -> None:
    seen = make_seen(1, 2, 6, needs=COM.needs(6), heads=4)
    q, k = seen.queries[5][:, 0].view(3, 4, 1, 4), seen.keys[5].view(3, 36, 4, 4).transpose(1, 2)
    logits = (q @ k.transpose(2, 3) / 2).mean(1)[:, 0]  # (3, 36)
    assert (logits < 0).any()
    why = COM.keep(seen, 9, share=0.1).why
    torch.testing.assert_close(why["score"][0], 2 * logits[0] / logits[0].norm())
    s = (logits[0].view(6, 2, 3).sum((0, 2)) / 10).softmax(0)
    torch.testing.assert_close(why["scale"][1:].float(), 0.1 * (0.5 + s))


@pytest.mark.parametrize("tile", range(4))
def test_the_tile_that_the_thumbnail_looks_at_keeps_more(tile: int) -> None:
    seen = looking(hot(tile), 2, 2)
    kept, sharp = COM.keep(seen, 50), dataclasses.replace(COM, temperature=0.1).keep(seen, 50)
    assert kept.granted[1:].argmax() == tile
    assert kept.granted[1:].max() < sharp.granted[1:].max()
    s = (torch.tensor([4.5 * (t == tile) for t in range(4)]) / 10).softmax(0)  # nine cells of 0.5
    torch.testing.assert_close(kept.why["scale"][1:].float(), 50 / seen.positions * (0.75 + s))
    assert kept.granted[0] == 10  # the thumbnail keeps its share
    exact = kept.granted[1:] - 40 * (0.75 + s) / 4
    assert exact.abs().max() < 1


def test_parts_that_do_not_divide_weigh_the_same() -> None:
    kept = COM.keep(looking(torch.ones(4, 25), 1, 3), 40, share=0.4)
    torch.testing.assert_close(kept.why["scale"], torch.full_like(kept.why["scale"], 0.4))


def test_a_tile_that_sees_nothing_keeps_what_the_thumbnail_sees_there() -> None:
    logits = torch.zeros(5, 36)
    logits[0, 35] = 1  # the last corner
    kept = COM.keep(looking(logits, 2, 2), 20)
    corner = kept.mask[4].view(6, 6)
    assert corner[4:, 4:].all()
    assert not kept.why["score"][1:4].any()


def test_both_say_as_much_whatever_their_size() -> None:
    logits = hot(3) + torch.linspace(0, 1, 36)
    louder = logits * torch.tensor([1.0, 7, 0.2, 3, 9])[:, None]
    a, b = COM.keep(looking(logits, 2, 2), 50), COM.keep(looking(louder, 2, 2), 50)
    torch.testing.assert_close(a.why["score"], b.why["score"])


def test_the_thumbnail_is_stretched_over_what_is_not_padding() -> None:
    seen = make_seen(2, 2, 6, (3, 1), needs=Needs())
    thumbnail = torch.arange(6.0).repeat_interleave(6)  # row numbers
    over = stretched(thumbnail, seen)
    assert over[0].equal(thumbnail)
    assert not over[~seen.valid].any()
    canvas = over[1:].view(2, 2, 6, 6).transpose(1, 2).reshape(12, 12)
    torch.testing.assert_close(canvas[3:9, 1:11], torch.arange(6.0)[:, None].expand(6, 10))  # six rows onto six


def test_padding_has_no_say_in_the_norm() -> None:
    logits = hot(0)
    seen = looking(logits, 2, 2, (3, 0))
    loud = looking(torch.where(seen.valid, logits, torch.tensor(1e4)), 2, 2, (3, 0))
    assert COM.keep(seen, 40).why["score"].equal(COM.keep(loud, 40).why["score"])


def test_official_floors_clips_and_closes_every_row() -> None:
    seen = looking(hot(2), 2, 2, (3, 0))
    s = (torch.tensor([0.0, 0, 4.5, 0]) / 10).softmax(0)
    kept = OFFICIAL.keep(seen, round(0.27 * seen.positions), share=0.27)
    assert kept.granted.tolist() == [9, *(18 * 0.27 * (0.75 + s)).int().tolist()]
    assert kept.newlines.all()
    assert kept.newlines.numel() == 12
    full = OFFICIAL.keep(seen, round(0.95 * seen.positions), share=0.95)
    assert full.granted[3] == 18
    assert full.granted[[1, 2, 4]].tolist() == [(0.95 * 18 * (0.75 + s[0])).int()] * 3
    assert not OFFICIAL.exact


def test_one_tile_keeps_its_highest_logits() -> None:
    logits = torch.randn(1, 36, generator=torch.Generator().manual_seed(3))
    kept = COM.keep(looking(logits, 0, 0), 9)
    assert kept.mask[0, logits[0].topk(9).indices].all()


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_outside_its_range_is_refused(temperature: float) -> None:
    with pytest.raises(MethodError, match="temperature"):
        GlobalCom2(temperature=temperature)
