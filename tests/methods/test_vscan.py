from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen

from herovlm.errors import MethodError
from herovlm.methods.vscan import VScan, windows
from herovlm.types import Needs

SCAN = VScan()


def test_it_asks_for_two_blocks() -> None:
    assert SCAN.needs(24) == Needs((5, 22))


@pytest.mark.parametrize(("side", "count"), [(24, 4), (8, 4), (7, 4), (5, 3), (3, 4), (6, 1)])
def test_every_patch_is_in_one_window_and_windows_are_even(side: int, count: int) -> None:
    of = windows(side, count)
    assert of.sum(0).eq(1).all()
    sizes = of.sum(1)
    assert sizes.max() <= (-(-side // count)) ** 2
    assert sizes.min() >= (side // count) ** 2
    inside = of.view(-1, side, side)
    for window in inside[sizes > 0]:  # a rectangle
        assert window.any(1).sum() * window.any(0).sum() == window.sum()


def test_half_is_chosen_in_the_windows_by_the_shallow_row_and_the_rest_by_the_deep_one() -> None:
    seen = make_seen(0, 0, 8, newlines=False, depth=24, needs=SCAN.needs(24))
    kept = SCAN.keep(seen, 40)
    of = windows(8, 4)
    near, far = seen.attention[5].mean(1)[0], seen.attention[22].mean(1)[0]
    best = torch.stack([near.masked_fill(~window, -1).argsort(descending=True)[:1] for window in of])[:, 0]
    assert kept.mask[0, best].all()  # 20 in 16 windows: at least one in each
    assert VScan(local=1).keep(seen, 32).mask[0].view(8, 8).unfold(0, 2, 2).unfold(1, 2, 2).sum((2, 3)).eq(2).all()
    assert VScan(local=0).keep(seen, 40).mask[0].equal(far >= far.sort(descending=True).values[39])


def test_every_token_is_a_mean_and_nothing_is_lost() -> None:
    seen = make_seen(1, 2, 6, (2, 1), depth=24, needs=SCAN.needs(24))
    kept = SCAN.keep(seen, 30)
    assert seen.features is not None
    assert kept.features is not None
    tokens = torch.zeros_like(seen.features)
    tokens[kept.mask] = kept.features
    unit = torch.nn.functional.normalize(seen.features, dim=-1)
    for tile in range(3):
        ok, mask = seen.valid[tile], kept.mask[tile]
        like = (unit[tile] @ unit[tile].T).masked_fill(~mask, -2)
        owner = torch.where(mask, torch.arange(36), like.argmax(1))
        for cell in mask.nonzero()[:, 0]:
            torch.testing.assert_close(tokens[tile, cell], seen.features[tile, ok & (owner == cell)].mean(0))


def test_padding_is_merged_into_nothing() -> None:
    seen = make_seen(2, 1, 6, (2, 1), newlines=False, depth=24, needs=SCAN.needs(24))
    assert seen.features is not None
    noise = dataclasses.replace(seen, features=seen.features.masked_fill(~seen.valid[..., None], 1e6))
    a, b = SCAN.keep(seen, 30), SCAN.keep(noise, 30)
    assert a.features is not None
    assert b.features is not None
    assert a.features.equal(b.features)


@pytest.mark.parametrize(("asked", "kept"), [(46, 39), (16, 8), (32, 32), (1, 1)])
def test_official_loses_what_the_windows_do_not_divide_and_closes_all_rows(asked: int, kept: int) -> None:
    seen = make_seen(1, 1, 8, depth=24, needs=SCAN.needs(24))
    found = VScan(variant="official").keep(seen, 2 * asked)
    assert found.granted.tolist() == [kept, kept]
    assert found.newlines.all()
    assert not VScan(variant="official").exact


@pytest.mark.parametrize("fields", [{"local": 1.2}, {"windows": 0}])
def test_fields_have_ranges(fields: dict[str, float]) -> None:
    with pytest.raises(MethodError, match="expected"):
        VScan(**fields)  # type: ignore[arg-type]
