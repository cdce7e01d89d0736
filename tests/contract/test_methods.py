"""What is true of every method of the registry; a new method is covered by its line there."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

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
    'mmtok(scope="image", keywords=False)',
    'mmtok(padding="covered")',
    'tops(scope="tile", scale="minmax")',
    'vitcop(variant="official")',
]
# rows, columns, side, padding (top and bottom, left and right)
SHAPES = [
    (2, 2, 6, (2, 0)),
    (1, 3, 5, (0, 4)),
    (3, 1, 4, (5, 1)),  # more padding than a tile is high
    (2, 2, 3, (0, 0)),
    (0, 0, 6, (0, 0)),  # one tile: LLaVA-1.5
    (1, 2, 4, (2, 0)),  # all padding but the thumbnail: a picture of 1000 x 10
]
MAPS = ("attention", "received", "keys", "queries", "words")
TENSORS = ("features", "cls", "relevance", "affinity", "dots", "hidden", "newline")
RULES: list[Newlines] = ["touched", "all", "none"]  # a method's own, None, is one of them


@pytest.fixture(params=SPECS)
def method(request: pytest.FixtureRequest) -> Method:
    return spec.parse(request.param)


@pytest.fixture(params=SHAPES, ids=str)
def shape(request: pytest.FixtureRequest) -> tuple[int, int, int, tuple[int, int]]:
    return request.param


def look(method: Method, shape: tuple[int, int, int, tuple[int, int]], seed: int = 0) -> Seen:
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
    for rule, budget in itertools.product(RULES, budgets(seen)):
        try:
            kept = method.keep(seen, budget, rule)
        except BudgetError:
            assert rule == "all" or not method.exact
            assert budget <= seen.grid.sent.sum() or not method.exact
            continue
        if method.exact:
            assert kept.positions == budget, rule
        assert kept.mask.any()
        assert kept.mask.shape == seen.valid.shape
        assert kept.newlines.shape == seen.grid.sent.shape
        assert not (kept.mask & ~seen.valid).any(), "padding is never kept"
        assert (kept.granted <= seen.valid.sum(1)).all()


def test_keeping_all_positions_keeps_everything(method: Method, shape) -> None:  # type: ignore[no-untyped-def]
    seen = look(method, shape)
    for rule in RULES:
        for budget in (seen.positions, seen.positions + 9):
            kept = method.keep(seen, budget, rule, share=1.0)
            assert kept.mask.equal(seen.valid)
            assert kept.newlines.equal(seen.grid.sent)
            assert kept.features is None


def test_the_total_does_not_depend_on_content(method: Method, shape) -> None:  # type: ignore[no-untyped-def]
    if not method.exact and method.name != "thumbnail":
        pytest.skip("the authors' floors and clamps lose what content makes them lose")
    seen = [look(method, shape, seed) for seed in range(3)]
    for budget in usual(seen[0]):
        assert len({method.keep(s, budget).positions for s in seen}) == 1


def test_a_larger_budget_keeps_no_fewer_patches(method: Method, shape) -> None:  # type: ignore[no-untyped-def]
    seen = look(method, shape)
    counts = [int(method.keep(seen, b).mask.sum()) for b in budgets(seen) if b > seen.positions // 5]
    assert counts == sorted(counts)


def test_it_is_a_pure_function(method: Method, shape) -> None:  # type: ignore[no-untyped-def]
    seen = look(method, shape)
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


def test_float64_signals_give_the_same_choice(method: Method, shape) -> None:  # type: ignore[no-untyped-def]
    seen = look(method, shape)
    wide = cast(seen, torch.Tensor.double)
    for budget in usual(seen):
        assert method.keep(seen, budget).mask.equal(method.keep(wide, budget).mask)


def test_bfloat16_signals_are_computed_in_float32(method: Method, shape) -> None:  # type: ignore[no-untyped-def]
    half = cast(look(method, shape), torch.Tensor.bfloat16)
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


def test_merged_features_follow_the_mask(method: Method, shape) -> None:  # type: ignore[no-untyped-def]
    seen = look(method, shape)
    kept = method.keep(seen, seen.positions // 3)
    for made, given in ((kept.features, seen.features), (kept.hidden, seen.hidden)):
        if made is not None and given is not None:
            assert made.shape == (int(kept.mask.sum()), given.shape[-1])
            assert made.dtype == given.dtype
            assert made.isfinite().all()


def test_its_scores_are_named_and_shaped(method: Method, shape) -> None:  # type: ignore[no-untyped-def]
    seen = look(method, shape)
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
        "cls": None,
        "relevance": None,
        "affinity": None,
        "dots": None,
        "hidden": None,
        "words": {},
    }
    for field in without:
        if getattr(needs, field):
            with pytest.raises(MethodError):
                method.keep(dataclasses.replace(seen, **{field: without[field]}), seen.positions // 2)


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
