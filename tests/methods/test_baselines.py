from __future__ import annotations

import dataclasses

import pytest
import torch
from grids import make_seen

from herovlm.errors import MethodError
from herovlm.methods.cls_topk import ClsTopK
from herovlm.methods.full import Full
from herovlm.methods.pool import Pool
from herovlm.methods.random import Random
from herovlm.methods.thumbnail import Thumbnail
from herovlm.methods.uniform import Uniform
from herovlm.types import Needs, Seen

SEEN = make_seen(2, 2, 6, (2, 0))


def swap(seen: Seen, **parts: object) -> Seen:
    return dataclasses.replace(seen, **parts)  # type: ignore[arg-type]


def test_full_keeps_everything_at_any_budget() -> None:
    kept = Full().keep(SEEN, 1)
    assert kept.mask.equal(SEEN.valid)
    assert kept.newlines.equal(SEEN.grid.sent)


def test_random_depends_on_the_seed_and_on_nothing_that_was_seen() -> None:
    other = make_seen(2, 2, 6, (2, 0), seed=9)
    assert Random(seed=3).keep(SEEN, 40).mask.equal(Random(seed=3).keep(other, 40).mask)
    assert not Random(seed=3).keep(SEEN, 40).mask.equal(Random(seed=4).keep(SEEN, 40).mask)


@pytest.mark.parametrize("seed", [0, 7, -3, 2**40 + 5, -(2**63)])
def test_random_draws_what_torch_draws_on_the_cpu(seed: int) -> None:
    drawn = Random(seed=seed).keep(SEEN, 40).why["score"]
    assert drawn.equal(torch.rand(drawn.shape, generator=torch.Generator().manual_seed(seed)))


def test_random_gives_every_valid_patch_the_same_chance() -> None:
    counts = sum(Random(seed=s, newlines="none").keep(SEEN, 33).mask.int() for s in range(600))
    chance = counts[SEEN.valid].float() / 600
    expected = 33 / int(SEEN.valid.sum())
    assert (chance - expected).abs().max() < 5 * (expected * (1 - expected) / 600) ** 0.5


def test_cls_topk_gives_every_tile_the_same_share_of_its_valid_patches() -> None:
    kept = ClsTopK(newlines="none").keep(SEEN, 66)
    share = kept.granted / SEEN.valid.sum(1)
    assert (share - 0.5).abs().max() <= 1 / 24


def test_cls_topk_keeps_what_the_deep_layer_looks_at() -> None:
    kept = ClsTopK(layers=(5,)).keep(SEEN, 60)
    score = SEEN.attention[5].mean(1)
    for s, m, v in zip(score, kept.mask, SEEN.valid, strict=True):
        assert s[m].min() > s[v & ~m].max()


def test_thumbnail_keeps_its_best_patches_only() -> None:
    kept = Thumbnail(layers=(5,)).keep(SEEN, 9)
    assert kept.granted.tolist() == [9, 0, 0, 0, 0]
    assert kept.mask[0, SEEN.attention[5][0].mean(0).topk(9).indices].all()
    assert not kept.newlines.any()


def test_thumbnail_never_keeps_more_than_the_thumbnail() -> None:
    assert Thumbnail().keep(SEEN, SEEN.positions - 1).granted.tolist() == [36, 0, 0, 0, 0]


def test_thumbnail_refuses_a_picture_that_has_none() -> None:
    row = SEEN.grid.row.clone()
    row[0] = 3
    with pytest.raises(MethodError, match="thumbnail"):
        Thumbnail().keep(swap(SEEN, grid=dataclasses.replace(SEEN.grid, row=row)), 9)


def test_thumbnail_takes_a_lone_tile_that_ends_in_a_newline_for_the_whole_picture() -> None:
    lone = make_seen(0, 0, 6)
    row = torch.zeros_like(lone.grid.row)
    kept = Thumbnail().keep(swap(lone, grid=dataclasses.replace(lone.grid, row=row)), 9)
    assert int(kept.mask.sum()) == 9


@pytest.mark.parametrize("cells", [1, 2, 3, 4, 6])
def test_pool_is_average_pooling_where_the_side_divides(cells: int) -> None:
    features = torch.randn(1, 144, 4, generator=torch.Generator().manual_seed(1))
    kept = Pool().keep(swap(make_seen(0, 0, 12), features=features), cells**2)
    pooled = torch.nn.functional.avg_pool2d(features.view(12, 12, 4).permute(2, 0, 1), 12 // cells)
    assert kept.features is not None
    assert kept.features.allclose(pooled.flatten(1).T, atol=1e-6)


def test_pool_has_no_say_for_content() -> None:
    other = make_seen(2, 2, 6, (2, 0), seed=9)
    assert Pool().keep(SEEN, 40).mask.equal(Pool().keep(other, 40).mask)


def test_pool_says_that_it_needs_features() -> None:
    with pytest.raises(MethodError, match="features"):
        Pool().keep(swap(SEEN, features=None), 40)


def test_baselines_look_at_no_question() -> None:
    for method in (Full(), Random(), Uniform(), ClsTopK(), Pool(), Thumbnail()):
        assert method.needs(6) == Needs(method.needs(6).attention)
