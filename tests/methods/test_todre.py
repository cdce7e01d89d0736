from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen

from herovlm.methods.todre import ToDre
from herovlm.types import Seen

SEEN = make_seen(2, 2, 6, (2, 0), newlines=False)


def circle(*degrees: float) -> Seen:
    """One tile whose features lie on a circle; the CLS token looks at the first patch most."""
    seen = make_seen(0, 0, round(len(degrees) ** 0.5))
    angle = torch.tensor(degrees).deg2rad()
    rows = torch.ones(1, 2, len(degrees)) / len(degrees)
    rows[..., 0] += 0.01
    return dataclasses.replace(
        seen, features=torch.stack([angle.cos(), angle.sin()], -1)[None], attention={seen.depth - 1: rows}
    )


def picks(method: ToDre, seen: Seen, count: int) -> list[int]:
    order = method.keep(seen, count).why["score"].flatten().argsort(descending=True, stable=True)
    return order[:count].tolist()


def test_max_sum_leans_away_from_all_picks_and_k_center_covers() -> None:
    seen = circle(0, 170, 172, 90, -60, 1, 2, 3, 4)
    assert picks(ToDre(), seen, 3) == [0, 2, 4]  # 0 and 172 add up to a vector near 90: -60 is opposite
    assert picks(ToDre(objective="k_center"), seen, 3) == [0, 2, 3]  # 90 is far from both


@pytest.mark.parametrize("objective", ["max_sum", "k_center"])
def test_the_pivot_is_the_thumbnails_however_attended_another_tile_is(objective: str) -> None:
    last = SEEN.attention[5].clone()
    last[0, :, 7] = last[0].amax(-1) + 0.1
    last[3, :, 0] = 0.9
    seen = dataclasses.replace(SEEN, attention=SEEN.attention | {5: last})
    assert picks(ToDre(objective=objective), seen, 1) == [7]  # type: ignore[arg-type]
    mask = ToDre(objective=objective, scope="tile").keep(seen, seen.positions // 2).mask  # type: ignore[arg-type]
    assert mask[0, 7]
    assert mask[3, 0] == seen.valid[3, 0]


def test_what_the_cls_token_gives_itself_does_not_weigh_the_heads() -> None:
    seen = circle(*range(0, 36, 4))
    rows = torch.full((1, 2, 9), 0.1)
    rows[0, 1, 1] = 0.2
    rows[0, 0] = 0.001  # a head that looks at the CLS key alone, and at patch 2 of the patches
    rows[0, 0, 2] = 0.08
    assert rows.mean(1).argmax() == 1
    assert picks(ToDre(), dataclasses.replace(seen, attention={5: rows}), 1) == [2]


def test_the_contest_is_over_all_tiles_unless_each_has_its_own() -> None:
    features = torch.ones(5, 36, 8)
    features[2] = torch.randn(36, 8, generator=torch.Generator().manual_seed(0))  # the only tile with anything new
    seen = dataclasses.replace(SEEN, features=features)
    budget = 1 + int(seen.valid[2].sum())
    granted = ToDre(objective="k_center").keep(seen, budget).granted
    assert granted.tolist() == [1, 0, budget - 1, 0, 0]
    granted = ToDre(scope="tile").keep(seen, seen.positions // 2).granted
    assert granted.tolist() == (seen.valid.sum(1) // 2).tolist()


def test_half_precision_reaches_as_much_even_where_it_picks_others() -> None:
    assert SEEN.features is not None
    half = dataclasses.replace(SEEN, features=SEEN.features.bfloat16())
    unit = torch.nn.functional.normalize(SEEN.features, dim=-1)
    fine, coarse = (unit[ToDre().keep(s, 62).mask] for s in (SEEN, half))
    apart = unit[SEEN.valid][:62]
    assert coarse.sum(0).norm() < fine.sum(0).norm() + 0.1 < apart.sum(0).norm() / 4
