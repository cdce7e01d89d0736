"""What is true of every method of the registry; a new method is covered by its line there."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from grids import make_seen

from herovlm import registry, spec
from herovlm.errors import BudgetError, MethodError
from herovlm.methods.base import Method
from herovlm.types import Kept, Newlines, Seen

DEPTH = 6
SPECS = [
    *registry.METHODS,
    'hero(variant="official")',
    "hero(double_softmax=True)",
    "hero_plus(novelty=0)",
    "hero_plus(overview=0)",
    "hero(alpha=1)",
    "hero(thumbnail=0.7)",
    "random(seed=7)",
    'hired(variant="official")',
    'hired(variant="paper")',
    'fopru(strategy="row")',
    'fopru(significance="cls")',
    'vtc_cls(scope="image")',
    "vispruner(important=0.0)",
    'prumerge(variant="adaptive")',
    'prumerge(variant="fixed")',
    'prumerge_plus(variant="adaptive")',
    'globalcom2(variant="official")',
    'visionzip(merge="mean")',
    "visionzip(dominant=5, contextual=2)",
    'scope(combine="sum", alpha=0.5)',
    'scope(scope="image")',
    'vscan(variant="official")',
    "vscan(windows=3, local=0.8)",
    'trim(variant="adaptive")',
    'todre(objective="k_center")',
    'divprune(scope="tile")',
    'divprune(variant="official")',
    'cdpruner(scope="image")',
    "cdpruner(by=words)",
    "tops(signal=received)",
    'mmtok(scope="image", keywords=False)',
    'mmtok(padding="covered")',
    'tops(scope="tile", scale="minmax")',
    'vitcop(variant="official")',
    "hero(signal=received)",
    "hero(signal=probe, alpha=0.5)",
    "hero_plus(signal=probe)",
    "hero_plus(signal=received, novelty=0)",
    "cls_topk(signal=received)",
    "fastervlm(signal=probe)",
    "vtc_cls(signal=received)",
    "vispruner(signal=probe)",
    "scope(signal=received)",
    "todre(signal=probe)",
    "vscan(signal=received)",
    "hired(signal=received)",
    "globalcom2(signal=probe)",
    "visionzip(signal=received)",
    "vitcop(signal=received)",
    "thumbnail(signal=probe)",
    "fopru(significance=probe)",
]
# rows, columns, side, padding (top and bottom, left and right); heights and widths of tiles, the overview, newlines
SHAPES = [
    (2, 2, 6, (2, 0)),
    (1, 3, 5, (0, 4)),
    (3, 1, 4, (5, 1)),  # more padding than a tile is high
    (2, 2, 3, (0, 0)),
    (0, 0, 6, (0, 0)),  # one tile: LLaVA-1.5
    (1, 2, 4, (2, 0)),  # all padding but the thumbnail: a picture of 1000 x 10
    (2, 2, 4, (0, 0), None, (2, 3)),  # an overview smaller than the tiles
    (1, 1, 6, (0, 0), None, False, False),  # one window: a picture that was seen as a whole
    (2, 3, 3, (0, 0), None, False, False),
    (2, 3, 4, (0, 0), ((4, 2), (4, 4, 1)), False, False),  # the last row and column of windows are not full
    (2, 2, 4, (0, 0), ((3, 3), (3, 2)), False),  # windows about as large, none of them full, and newlines
]
TELLING = [SHAPES[i] for i in (0, 4, 9, 10)]  # what does not hang on edges is asked of these alone
Shape = Any  # what `make_seen` takes
MAPS = ("attention", "received", "keys", "queries", "words")
TENSORS = ("features", "cls", "relevance", "affinity", "dots", "probe", "hidden", "newline")
RULES: list[Newlines] = ["touched", "all", "none"]  # a method's own, None, is one of them


@pytest.fixture(params=SPECS)
def method(request: pytest.FixtureRequest) -> Method:
    return spec.parse(request.param)


@pytest.fixture(params=SHAPES, ids=str)
def shape(request: pytest.FixtureRequest, method: Method) -> Shape:
    if made_of_the_overview(method) and request.param[5:6] == (False,):
        pytest.skip("refused: test_what_is_made_of_the_overview_is_refused_without_one")
    return request.param


@pytest.fixture(params=TELLING, ids=str)
def telling(request: pytest.FixtureRequest, method: Method) -> Shape:
    if made_of_the_overview(method) and request.param[5:6] == (False,):
        pytest.skip("refused: test_what_is_made_of_the_overview_is_refused_without_one")
    return request.param


def made_of_the_overview(method: Method) -> bool:
    return method.name == "thumbnail" or (method.name in ("hired", "globalcom2") and not method.exact)


def look(method: Method, shape: Shape, seed: int = 0) -> Seen:
    """What was asked for, and nothing else: a method that reads more than it declared fails."""
    return make_seen(*shape, seed=seed, needs=method.needs(DEPTH), depth=DEPTH)


def budgets(seen: Seen) -> list[int]:
    """Both edges, where rounding goes wrong, and what people ask for."""
    n = seen.positions
    return sorted({1, 2, 3, n // 20 + 1, n // 5, n // 2, n - 2, n - 1})


def usual(seen: Seen) -> tuple[int, int]:
    """Budgets for what has nothing to do with edges."""
    return seen.positions // 5, seen.positions // 2


def same(a: Kept, b: Kept) -> bool:
    pairs = [(a.mask, b.mask), (a.newlines, b.newlines), *((a.why[k], b.why[k]) for k in a.why)]
    for one, other in ((a.features, b.features), (a.hidden, b.hidden)):
        assert (one is None) == (other is None)
        pairs += [(one, other)] if one is not None and other is not None else []
    return a.why.keys() == b.why.keys() and all(x.equal(y) for x, y in pairs)


def test_it_says_what_it_is(method: Method) -> None:
    assert registry.METHODS[method.name].endswith(f":{type(method).__name__}")
    assert method.paper
    assert method.fidelity in ("golden parity", "from the paper", "reconstruction", "of this library", "baseline")
    assert (type(method).__doc__ or "").strip()
    assert method.formula.strip()
    assert "\n" not in method.formula


def test_it_is_frozen_and_its_spec_is_itself(method: Method) -> None:
    assert spec.parse(str(method)) == method
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.newlines = "all"  # type: ignore[misc]


def test_the_budget_is_spent_exactly(method: Method, shape) -> None:  # type: ignore[no-untyped-def]
    seen = look(method, shape)
    rules = RULES if seen.grid.rows else RULES[-1:]  # without newlines all rules are one
    for rule, budget in itertools.product(rules, budgets(seen)):
        try:
            kept = method.keep(seen, budget, rule)
        except BudgetError:
            alone = bool((seen.valid & (seen.grid.row < 0)).any())  # a patch that touches no newline
            assert rule == "all" or not method.exact or (rule == "touched" and not alone)
            assert budget <= (seen.grid.sent.sum() if rule == "all" else 1) or not method.exact
            continue
        if method.exact:
            assert kept.positions == budget, rule
        assert kept.mask.any()
        assert kept.mask.shape == seen.valid.shape
        assert kept.newlines.shape == seen.grid.sent.shape
        assert not (kept.mask & ~seen.valid).any(), "padding is never kept"
        assert (kept.granted <= seen.valid.sum(1)).all()


def test_what_is_in_padding_does_not_matter(method: Method, shape) -> None:  # type: ignore[no-untyped-def]
    if not method.exact or any(own in str(method) for own in ("official", "double_softmax", "covered")):
        pytest.skip("the authors' code reads padding")
    seen = look(method, shape)
    other = elsewhere(seen)
    for budget in usual(seen):
        assert method.keep(seen, budget).mask.equal(method.keep(other, budget).mask)


def test_what_is_made_of_the_overview_is_refused_without_one(method: Method) -> None:
    seen = look(method, SHAPES[-1])
    if made_of_the_overview(method):
        with pytest.raises(MethodError, match=r"made of the overview.*without one; use \w+"):
            method.keep(seen, seen.positions // 2)
    else:
        assert method.keep(seen, seen.positions // 2).mask.any()


def test_keeping_all_positions_keeps_everything(method: Method, shape) -> None:  # type: ignore[no-untyped-def]
    seen = look(method, shape)
    for rule in RULES:
        for budget in (seen.positions, seen.positions + 9):
            kept = method.keep(seen, budget, rule, share=1.0)
            assert kept.mask.equal(seen.valid)
            assert kept.newlines.equal(seen.grid.sent)
            assert kept.features is None


def test_the_total_does_not_depend_on_content(method: Method, telling) -> None:  # type: ignore[no-untyped-def]
    if not method.exact and method.name != "thumbnail":
        pytest.skip("the authors' floors and clamps lose what content makes them lose")
    seen = [look(method, telling, seed) for seed in range(3)]
    for budget in usual(seen[0]):
        assert len({method.keep(s, budget).positions for s in seen}) == 1


def test_a_larger_budget_keeps_no_fewer_patches(method: Method, telling) -> None:  # type: ignore[no-untyped-def]
    seen = look(method, telling)
    counts = [int(method.keep(seen, b).mask.sum()) for b in budgets(seen) if b > seen.positions // 5]
    assert counts == sorted(counts)


def test_it_is_a_pure_function(method: Method, telling) -> None:  # type: ignore[no-untyped-def]
    seen = look(method, telling)
    before = [t.clone() for t in tensors(seen)]
    state = torch.random.get_rng_state()
    for budget in usual(seen):
        first = method.keep(seen, budget)
        torch.manual_seed(budget)
        other = look(method, (1, 2, 4, (0, 0)), seed=5)
        method.keep(other, other.positions // 2)  # a neighbour in the batch
        assert same(first, method.keep(seen, budget))
        torch.random.set_rng_state(state)
    assert all(a.equal(b) for a, b in zip(before, tensors(seen), strict=True))


def test_it_draws_nothing_from_the_global_generator(method: Method) -> None:
    seen = look(method, SHAPES[0])
    state = torch.random.get_rng_state()
    method.keep(seen, seen.positions // 2)
    assert torch.random.get_rng_state().equal(state)


def test_the_record_shares_no_memory_with_what_was_seen(method: Method) -> None:
    seen = look(method, SHAPES[0])
    for budget in (seen.positions // 2, seen.positions):
        kept = method.keep(seen, budget)
        kept.mask.fill_(True)
        kept.newlines.fill_(True)
        assert not seen.valid.all()
        assert not seen.grid.sent.all()


def test_float64_signals_give_the_same_choice(method: Method, telling) -> None:  # type: ignore[no-untyped-def]
    seen = look(method, telling)
    wide = cast(seen, torch.Tensor.double)
    for budget in usual(seen):
        assert method.keep(seen, budget).mask.equal(method.keep(wide, budget).mask)


def test_bfloat16_signals_are_computed_in_float32(method: Method, telling) -> None:  # type: ignore[no-untyped-def]
    half = cast(look(method, telling), torch.Tensor.bfloat16)
    full = cast(half, torch.Tensor.float)
    for budget in usual(half):
        coarse, fine = method.keep(half, budget), method.keep(full, budget)
        assert coarse.mask.equal(fine.mask)
        assert coarse.newlines.equal(fine.newlines)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_choice(method: Method) -> None:
    for seen in (look(method, shape) for shape in SHAPES):
        moved = cast(seen, torch.Tensor.cuda)
        grid = dataclasses.replace(seen.grid, **{k: getattr(seen.grid, k).cuda() for k in ("order", "row", "sent")})
        moved = dataclasses.replace(moved, grid=grid, valid=seen.valid.cuda())
        for budget in (*usual(seen), seen.positions - 1):
            kept = method.keep(moved, budget)
            assert kept.mask.is_cuda
            assert kept.mask.cpu().equal(method.keep(seen, budget).mask)


def test_merged_features_follow_the_mask(method: Method, telling) -> None:  # type: ignore[no-untyped-def]
    seen = look(method, telling)
    kept = method.keep(seen, seen.positions // 3)
    for made, given in ((kept.features, seen.features), (kept.hidden, seen.hidden)):
        if made is not None and given is not None:
            assert made.shape == (int(kept.mask.sum()), given.shape[-1])
            assert made.dtype == given.dtype
            assert made.isfinite().all()


def test_its_scores_are_named_and_shaped(method: Method, telling) -> None:  # type: ignore[no-untyped-def]
    seen = look(method, telling)
    for name, value in method.keep(seen, seen.positions // 3).why.items():
        assert value.shape in (seen.valid.shape[:1], seen.valid.shape), name
        assert value.isfinite().all(), name


@pytest.mark.parametrize("budget", [0, -3])
def test_nothing_is_no_budget(method: Method, budget: int) -> None:
    with pytest.raises(BudgetError, match="at least 1"):
        method.keep(look(method, SHAPES[0]), budget)


def test_signals_that_are_missing_are_named(method: Method) -> None:
    seen = look(method, SHAPES[0])
    needs = method.needs(DEPTH)
    without = {
        "attention": {},
        "received": {},
        "keys": {},
        "queries": {},
        "cls": None,
        "relevance": None,
        "affinity": None,
        "dots": None,
        "probe": None,
        "hidden": None,
        "words": {},
    }
    for field in without:
        if getattr(needs, field):
            with pytest.raises(MethodError):
                method.keep(dataclasses.replace(seen, **{field: without[field]}), seen.positions // 2)


def elsewhere(seen: Seen) -> Seen:
    """The same but for what stands in padding: attention of other patches there, other states."""
    valid, g = seen.valid, torch.Generator().manual_seed(1)

    def other(own: torch.Tensor, *places: torch.Tensor) -> torch.Tensor:
        (where,) = places or (valid,)
        shape = (*where.shape, *[1] * (own.ndim - where.ndim)) if own.ndim >= where.ndim else where.shape
        return torch.where(where.view(shape), own, torch.rand(own.shape, generator=g) / 9)

    made = {
        name: other(own)
        for name in ("features", "hidden", "affinity", "dots")
        if (own := getattr(seen, name)) is not None
    }
    made |= {"received": {b: other(own) for b, own in seen.received.items()}}
    made |= {"keys": {b: other(own) for b, own in seen.keys.items()}}
    made |= {"attention": {b: other(own, valid[:, None].expand(own.shape)) for b, own in seen.attention.items()}}
    made |= {} if seen.probe is None else {"probe": other(seen.probe, valid[:, None].expand(seen.probe.shape))}
    return dataclasses.replace(seen, **made)


def tensors(seen: Seen) -> list[torch.Tensor]:
    grid = seen.grid
    found = [seen.valid, grid.order, grid.row, grid.sent]
    found += [t for name in MAPS for t in getattr(seen, name).values()]
    return found + [t for name in TENSORS if (t := getattr(seen, name)) is not None]


def cast(seen: Seen, to: Callable[[torch.Tensor], torch.Tensor]) -> Seen:
    return dataclasses.replace(
        seen,
        **{name: {b: to(t) for b, t in getattr(seen, name).items()} for name in MAPS},
        **{name: to(t) for name in TENSORS if (t := getattr(seen, name)) is not None},
    )
