"""What is true of every method inside the language model; a new one is covered by its line in the registry."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from looks import cast, make_look, tensors

from herovlm import registry, spec
from herovlm.errors import BudgetError, MethodError
from herovlm.methods.inside.base import Chain, Inside
from herovlm.types import Cut, SeenInside

DEPTH, IMAGES = 8, (30, 17)
MORE = [
    "fastv(layer=0.5, tokens=7)",
    'pyramiddrop(ratios=(0.9, 0.4, 0.3), positions="code")',
    'vitcop_llm(merge="code")',
    'sparsevlm(plain=(11, 9, 2), positions="code")',
    "sparsevlm(recycle=0)",
    'tops_llm(by="last", positions="true", scale="minmax")',
    'tops_llm(by="all", layers=(1, 2, 3))',
    "sparsevlm_plus(plain=(20, 9, 2), heads=1, floor=None)",
]


@pytest.fixture(params=[*registry.INSIDE, *MORE])
def method(request: pytest.FixtureRequest) -> Inside:
    chain = spec.parse(request.param)
    assert isinstance(chain, Chain)
    assert chain.before is None
    return chain.then


def looks(method: Inside, seed: int = 0) -> list[SeenInside]:
    """What it is shown before each of its layers, when nothing else was ever left out."""
    plans = [method.plan(count, DEPTH) for count in IMAGES]
    layers = method.needs(DEPTH)
    return [make_look(method, at, DEPTH, IMAGES, [plan[at] for plan in plans], seed=seed) for at in layers]


def same(a: Cut, b: Cut) -> bool:
    for name in ("merged", "weights"):
        one, other = getattr(a, name), getattr(b, name)
        if (one is None) != (other is None) or (one is not None and not one.equal(other)):
            return False
    return a.keep.equal(b.keep) and a.positions == b.positions


def test_it_says_what_it_is(method: Inside) -> None:
    assert registry.INSIDE[method.name].endswith(f":{type(method).__name__}")
    assert registry.inside(method.name) is type(method)
    assert method.paper.startswith("arXiv ")
    assert method.fidelity in ("golden parity", "from the paper")
    assert (type(method).__doc__ or "").strip()
    assert "\n" not in method.formula


def test_it_is_frozen_and_its_spec_is_itself(method: Inside) -> None:
    assert spec.parse(str(method)) == Chain(None, method) == spec.parse(method)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("depth", [4, 5, 24, 32, 40])
def test_it_cuts_before_ascending_layers_and_never_adds(method: Inside, depth: int) -> None:
    for positions in (1, 2, 30, 577, 2928):
        try:
            plan = method.plan(positions, depth)
        except BudgetError:
            assert positions == 1
            continue
        layers, counts = list(plan), [positions, *plan.values()]
        assert layers == sorted({*layers})
        assert layers[0] >= 1
        assert layers[-1] < depth
        assert counts == sorted(counts, reverse=True)
        assert counts[-1] >= 1


@pytest.mark.parametrize("asked", [0.45, 0.6, 0.777, 0.95, 1.0])
def test_alone_its_mean_over_the_layers_is_what_was_asked_for(method: Inside, asked: float) -> None:
    if method.settled:
        pytest.skip("its own fields say how many stay")
    depth, positions = 32, 577
    mean = asked * positions
    plan = method.plan(positions, depth, mean)
    layers, counts = [0, *plan, depth], [positions, *plan.values()]
    spent = sum(n * (b - a) for n, a, b in zip(counts, layers[:-1], layers[1:], strict=True)) / depth
    assert mean - 2 < spent <= mean
    if asked == 1.0:
        assert set(counts) == {positions}


def test_a_mean_that_cannot_be_is_refused_with_one_that_can(method: Inside) -> None:
    if method.settled and method.exact:
        pytest.skip("its own fields say how many stay")
    with pytest.raises(BudgetError, match=f"hero \\+ {method.name}") as error:
        method.plan(577, 32, 3.0)
    if not method.settled:
        smallest = float(re.findall(r"keep >= ([\d.]+)", str(error.value))[0])
        assert method.plan(577, 32, smallest * 577)
        with pytest.raises(BudgetError):
            method.plan(577, 32, (smallest - 0.001) * 577)


def test_it_keeps_what_was_granted_to_each_image(method: Inside) -> None:
    for look in looks(method):
        cut = method.cut(look)
        assert cut.keep.sort().values.equal(cut.keep.unique())
        assert len(cut.keep) == 0 or 0 <= cut.keep.min() <= cut.keep.max() < len(look.visual)
        counts = [int((look.image[cut.keep] == image).sum()) for image in range(len(IMAGES))]
        assert counts == list(look.granted) or (not method.exact and counts in ([0, 0], list(IMAGES)))


def test_merged_states_are_made_of_the_image_they_stand_in(method: Inside) -> None:
    for look in looks(method):
        cut = method.cut(look)
        if cut.merged is None or cut.weights is None:
            assert cut.merged is cut.weights is None
            continue
        assert cut.merged.shape == cut.keep.shape
        assert cut.weights.shape == (int(cut.merged.sum()), len(look.visual))
        assert (cut.weights >= 0).all()
        total = 2.0 if "merge" in str(method) else 1.0
        torch.testing.assert_close(cut.weights.sum(1), torch.full((len(cut.weights),), total))
        for place, weights in zip(cut.keep[cut.merged], cut.weights, strict=True):
            assert weights[place] > 0
            assert (look.image[weights > 0] == look.image[place]).all()
        untouched = cut.keep[~cut.merged]
        assert (cut.weights[:, untouched] == 0).all(), "what stays as it is merges into nothing"


def test_granting_everything_keeps_everything(method: Inside) -> None:
    for layer in method.needs(DEPTH):
        cut = method.cut(make_look(method, layer, DEPTH, IMAGES, IMAGES))
        assert cut.keep.equal(torch.arange(sum(IMAGES))) or (not method.exact and not len(cut.keep))


def test_it_is_a_pure_function(method: Inside) -> None:
    state = torch.random.get_rng_state()
    for look, other in zip(looks(method), looks(method, seed=9), strict=True):
        before = [x.clone() for x in tensors(look)]
        first = method.cut(look)
        method.cut(other)
        assert same(first, method.cut(look))
        assert all(a.equal(b) for a, b in zip(before, tensors(look), strict=True))
    assert torch.random.get_rng_state().equal(state)


def test_precision_changes_next_to_nothing(method: Inside) -> None:
    for look in looks(method):
        cut = method.cut(look)
        assert cut.keep.equal(method.cut(cast(look, torch.Tensor.double)).keep)
        coarse = method.cut(cast(look, torch.Tensor.bfloat16)).keep
        common = len({*cut.keep.tolist()} & {*coarse.tolist()})
        assert common >= 0.75 * len(cut.keep)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_choice(method: Inside) -> None:
    for look in looks(method):
        moved = cast(look, torch.Tensor.cuda)
        moved = dataclasses.replace(moved, visual=look.visual.cuda(), image=look.image.cuda())
        if look.groups is not None:
            moved = dataclasses.replace(moved, groups=look.groups.cuda())
        cut = method.cut(moved)
        assert cut.keep.is_cuda
        assert cut.keep.cpu().equal(method.cut(look).keep)


def test_signals_that_are_missing_are_named(method: Inside) -> None:
    for look in looks(method):
        for field in dataclasses.fields(needs := method.needs(DEPTH)[look.layer]):
            if getattr(needs, field.name):
                with pytest.raises(MethodError, match=field.name):
                    method.cut(dataclasses.replace(look, **{field.name: None}))


@pytest.mark.parametrize(
    "text", ["fastv(layer=0)", "fastv(layer=8)", "fastv(layer=1.5)", "pyramiddrop(layers=(4, 3, 5))"]
)
def test_layers_that_are_not_there_are_refused(text: str) -> None:
    chain = spec.parse(text)
    assert isinstance(chain, Chain)
    with pytest.raises(MethodError, match=r"ascending layers 1\.\.7"):
        chain.then.needs(DEPTH)


def test_relative_layers_make_room_for_each_other() -> None:
    chain = spec.parse("pyramiddrop")
    assert isinstance(chain, Chain)
    assert list(chain.then.needs(32)) == [8, 16, 24]
    assert list(chain.then.needs(4)) == [1, 2, 3]
    with pytest.raises(MethodError, match="ascending layers"):
        chain.then.needs(3)


OUT_OF_RANGE = [
    *(
        "fastv(keep=0.0)",
        "fastv(keep=1.5)",
        "fastv(keep=1)",
        "fastv(tokens=0)",
        "vitcop_llm(keep=1)",
        "todre_llm(threshold=2)",
        "vitcop_llm(last=0)",
    ),
    *("pyramiddrop(keep=2)", "pyramiddrop(ratios=(0.5, 0.6, 0.1))", "pyramiddrop(ratios=(0.5, 0.2))"),
    *("sparsevlm(plain=(3, 2))", "sparsevlm(keep=0.5, plain=(3, 2, 1))", "sparsevlm(plain=(3, 2, 0))"),
    *("tops_llm(keep=2)", "tops_llm(alpha=-1)", "tops_llm(lam=-1)"),
    *("sparsevlm_plus(plain=(3, 2))", "sparsevlm_plus(heads=0)", "sparsevlm_plus(floor=2)"),
    *("sparsevlm_plus(layers=(1, 2))", "sparsevlm_plus(heads=1.5)"),
    *("pyramiddrop(keep=0.5, ratios=(0.5, 0.4, 0.3))", "sparsevlm(recycle=-1)", "sparsevlm(layers=(1, 2))"),
]


@pytest.mark.parametrize("text", OUT_OF_RANGE)
def test_fields_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(MethodError, match="expected"):
        spec.parse(text)
