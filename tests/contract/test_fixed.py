"""What a method that is a fixed graph promises: many images at once, one compiled graph, and nothing read back."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from grids import make_seen
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from herovlm import registry, spec
from herovlm.methods.base import Method
from herovlm.types import Kept, Seen

DEPTH = 6
SINGLE = ("features", "cls", "relevance", "affinity", "dots", "probe", "hidden")
MAPS = ("attention", "received", "keys", "queries", "words")
SPECS = [
    *registry.METHODS,
    "hero(thumbnail=0.7, alpha=1)",
    "hero(variant='official', allocation='exact', newlines='none')",
    "hero_plus(overview=0, novelty=0)",
    'fopru(strategy="row")',
    'vtc_cls(scope="image")',
    'divprune(scope="tile")',
    'todre(scope="tile", objective="k_center")',
    'tops(scope="tile", scale="minmax")',
    'scope(combine="sum")',
    'mmtok(padding="covered")',
    'mmtok(padding="covered", scope="image")',
    'scope(scope="image")',
    'cdpruner(scope="image")',
    "cdpruner(by=words)",
    "tops(signal=received)",
    'mmtok(scope="image")',
    'visionzip(merge="mean")',
    "hero(signal=received)",
    "hero_plus(signal=probe)",
    "globalcom2(signal=probe)",
    "todre(signal=received)",
]
FIXED = [text for text in SPECS if spec.parse(text).traceable]
SHAPES: list[Any] = [(2, 2, 4, (1, 0)), (0, 0, 5, (0, 0)), (1, 2, 3, (2, 0))]  # the last: no local patch is valid
SHAPES += [(2, 2, 4, (0, 0), ((4, 2), (4, 3)), False, False), (2, 2, 4, (0, 0), ((3, 3), (3, 2)), False, False)]
READS = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique", "equal.default", "bincount")


def looks(method: Method, shape: Any, images: int) -> list[Seen]:
    """Pictures of one geometry: the same grid and the same valid, counted."""
    seen = [make_seen(*shape, seed=seed, needs=method.needs(DEPTH), depth=DEPTH) for seed in range(images)]
    common = {"grid": seen[0].grid, "valid": seen[0].valid, "counted": seen[0].counts}
    return [dataclasses.replace(one, **common) for one in seen]


def signals(seen: Seen) -> dict[str, Any]:
    single = {name: value for name in SINGLE if (value := getattr(seen, name)) is not None}
    return single | {name: dict(value) for name in MAPS if (value := getattr(seen, name))}


def tensors(kept: Kept) -> dict[str, Any]:
    made = {f.name: getattr(kept, f.name) for f in dataclasses.fields(kept)}
    return {name: value for name, value in made.items() if isinstance(value, torch.Tensor | dict)}


def stacked(some: list[dict[str, Any]]) -> dict[str, Any]:
    return torch.utils._pytree.tree_map(lambda *parts: torch.stack(parts), *some)


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert one["mask"].equal(other["mask"])
    assert one["newlines"].equal(other["newlines"])
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


class Reads(TorchDispatchMode):
    """Counts what the host would have to wait for, were all tensors on a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        picked = any(part.dtype == torch.bool for part in tree_leaves(args[1:]) if isinstance(part, torch.Tensor))
        if any(read in str(func) for read in READS) or ("aten.index" in str(func) and picked):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("text", FIXED)
def test_many_images_at_once_are_chosen_for_as_each_alone(text: str, shape: Any) -> None:
    method = spec.parse(text)
    seen = looks(method, shape, 3)

    for budget in {1, seen[0].positions // 3, seen[0].counts.patches + seen[0].counts.newlines // 2}:

        def keep(own: dict[str, Any], budget: int = budget) -> dict[str, Any]:
            return tensors(method.keep(dataclasses.replace(seen[0], **own), budget))

        together = torch.vmap(keep)(stacked([signals(one) for one in seen]))
        alone = stacked([tensors(method.keep(one, budget)) for one in seen])
        assert_same(together, alone)


@pytest.mark.parametrize("text", FIXED)
def test_it_is_one_graph(text: str) -> None:
    method = spec.parse(text)
    for shape in (SHAPES[0], SHAPES[-1]):
        (seen,) = looks(method, shape, 1)
        assert_one_graph(method, seen)


def assert_one_graph(method: Method, seen: Seen) -> None:
    budget = seen.positions // 3

    def keep(own: dict[str, Any]) -> dict[str, Any]:
        return tensors(method.keep(dataclasses.replace(seen, **own), budget))

    torch.compiler.reset()
    graph = torch.compile(keep, fullgraph=True, backend="eager")
    assert_same(graph(signals(seen)), keep(signals(seen)))


@pytest.mark.parametrize("text", FIXED)
def test_the_host_reads_nothing(text: str) -> None:
    method = spec.parse(text)
    for shape in (SHAPES[0], *SHAPES[3:]):
        (seen,) = looks(method, shape, 1)
        method.keep(seen, seen.positions // 3)  # what may be remembered is
        with Reads() as reads:
            kept = method.keep(seen, seen.positions // 3)
            assert kept.positions == seen.positions // 3
        assert not reads.found


def test_every_exact_method_is_a_fixed_graph() -> None:
    assert [name for name in registry.METHODS if (m := spec.parse(name)).exact and not m.traceable] == []
