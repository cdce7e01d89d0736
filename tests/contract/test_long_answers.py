"""A cache of one size and compiled decoding, which long answers want, give the same tokens behind drop and dropping."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tiny
import torch
from transformers import CompileConfig

import herovlm

GREEDY = {"max_new_tokens": 6, "do_sample": False}
STATIC = {"cache_implementation": "static"}
pytestmark = pytest.mark.parametrize("family", tiny.FAMILIES)


@pytest.fixture
def fresh(family: str) -> Iterator[tiny.Tiny]:
    """A model of its own: what is compiled stays with it."""
    torch.compiler.reset()
    yield tiny.make(family)
    torch.compiler.reset()


def counting() -> tuple[list[int], Callable[..., Any]]:
    """Make a backend that changes nothing, and the sizes of the graphs that it was given."""
    sizes: list[int] = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[Any]) -> Any:
        sizes.append(len(graph.graph.nodes))
        return graph.forward

    return sizes, backend


def compiled(backend: Callable[..., Any]) -> dict[str, Any]:
    """Options of generate() that compile decoding as transformers does on a GPU: as one graph, whole or not at all."""
    config = CompileConfig(backend=backend, mode=None, fullgraph=True)
    config._compile_all_devices = True
    return {**STATIC, "compile_config": config}


def batch(small: tiny.Tiny, kind: str = "padded") -> Any:
    """Prompts of different lengths, padded on the left: two images, one, none; or one prompt alone."""
    pictures = [[tiny.picture(20, 60), tiny.picture(33, 33, 1)], [tiny.picture(60, 31)], []]
    texts = ["USER: <image> or <image>\nWhich? ASSISTANT:", "USER: <image>\nWhat is it? ASSISTANT:", "USER: Hi"]
    rows = slice(1, 2) if kind == "alone" else slice(None)
    return small.inputs(pictures[rows], texts[rows])


def new_tokens(model: Any, inputs: Any, **options: Any) -> torch.Tensor:
    return model.generate(**inputs, **GREEDY, **options)[:, inputs["input_ids"].shape[1] :]


@pytest.mark.parametrize("kind", ["alone", "padded"])
@pytest.mark.parametrize("method", ["hero", "visionzip"])  # one that picks, one that merges
def test_a_static_cache_gives_the_same_tokens(models: Any, family: str, method: str, kind: str) -> None:
    small = models(family)
    inputs, how = batch(small, kind), {"method": method, "keep": 0.3, "processor": small.processor}
    short = herovlm.drop(small.model, inputs, **how)
    want = new_tokens(small.model, short)
    assert torch.equal(new_tokens(small.model, short, **STATIC), want)
    with herovlm.dropping(small.model, **how):
        assert torch.equal(new_tokens(small.model, inputs, **STATIC), want)


@pytest.mark.parametrize("first", ["dropping", "plain"])
def test_compiled_decoding_gives_the_same_tokens_wherever_it_was_compiled(
    fresh: tiny.Tiny, family: str, first: str
) -> None:
    (graphs, backend), model, inputs = counting(), fresh.model, batch(fresh)
    how: Any = {"keep": 0.3, "processor": fresh.processor}
    short = herovlm.drop(model, inputs, **how)
    want, plain = new_tokens(model, short), new_tokens(model, inputs)
    assert not torch.equal(want, plain)
    way = compiled(backend)

    def within() -> torch.Tensor:
        with herovlm.dropping(model, **how):
            return new_tokens(model, inputs, **way)

    runs = {
        "drop": lambda: torch.equal(new_tokens(model, short, **way), want),
        "dropping": lambda: torch.equal(within(), want),
        "plain": lambda: torch.equal(new_tokens(model, inputs, **way), plain),
    }
    assert runs[first]()
    assert graphs
    assert all(run() for run in runs.values())
    assert runs[first]()


def test_a_compiled_language_model_gives_the_same_tokens(fresh: tiny.Tiny, family: str) -> None:
    (graphs, backend), model, inputs = counting(), fresh.model, batch(fresh)
    how: Any = {"keep": 0.3, "processor": fresh.processor}
    short = herovlm.drop(model, inputs, **how)
    want = new_tokens(model, short)
    model.model.language_model.compile(backend=backend, dynamic=True)
    assert torch.equal(new_tokens(model, short), want)
    assert graphs
    with herovlm.dropping(model, **how):
        assert torch.equal(new_tokens(model, inputs), want)
