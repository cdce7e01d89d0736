"""The shortcut through a vision tower: the same results, fewer rows computed, no trace."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import tiny
import torch
from made_towers import make_tower, pixels
from torch import nn
from transformers import CLIPVisionModel

import herovlm
from herovlm import registry
from herovlm.towers import shortcut
from herovlm.types import Needs, Seen

DEPTH, ROWS = 4, 17  # blocks of the tiny towers; CLS token and 16 patches


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run something without the shortcut."""

    def run(act: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(shortcut, "taken", lambda *_: nullcontext())
            return act()

    return run


@contextmanager
def rows_of_mlps(tower: Any) -> Iterator[list[int]]:
    """Count the rows that enter the MLP of each block."""
    rows: list[int] = []
    handles = [
        layer.mlp.register_forward_hook(lambda _m, args, _o: rows.append(args[0].shape[1]))
        for layer in tower.encoder.layers
    ]
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


def hooks(module: nn.Module) -> list[int]:
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()]


def same(a: Seen, b: Seen, exactly: bool) -> None:
    """All fields are equal; a CLS state behind one row instead of all differs by float32 rounding."""
    how = {"atol": 0, "rtol": 0} if exactly else {"atol": 1e-5, "rtol": 1e-5}
    for name, mine in vars(a).items():
        other = getattr(b, name)
        for one, two in zip(mine.values(), other.values(), strict=True) if isinstance(mine, dict) else [(mine, other)]:
            if isinstance(one, torch.Tensor):
                torch.testing.assert_close(one, two, **how if name in ("cls", "relevance") else {"atol": 0, "rtol": 0})
        assert (mine is None) == (other is None)


@pytest.mark.parametrize("spec", [*registry.METHODS, "hero(alpha=1)", "vtc_cls(last=-1)", "full", "fopru(layer=-1)"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_results_are_those_without_it(models: Any, plain: Any, family: str, spec: str) -> None:
    small = models(family)

    def act() -> Any:
        return herovlm.drop(small.model, tiny.batch(small), method=spec, keep=0.4, processor=small.processor)

    short, whole = act(), plain(act)
    for mine, other in zip(short.seen, whole.seen, strict=True):
        same(mine, other, exactly=False)
    for mine, other in zip(short.kept, whole.kept, strict=True):
        assert torch.equal(mine.mask, other.mask)
        assert torch.equal(mine.newlines, other.newlines)
    with torch.no_grad():
        torch.testing.assert_close(small.model(**short).logits, small.model(**whole).logits, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("spec", "rows"),
    [
        ("random", [ROWS, ROWS, ROWS, 1]),  # the features of block 2 are all that is read
        ("hero(alpha=1)", [ROWS, ROWS, ROWS, 1]),
        ("hero", [ROWS, ROWS, ROWS, 1]),  # CLS state
        ("prumerge", [ROWS, ROWS, ROWS, 1]),  # keys of the last block
        ("cdpruner", [ROWS, ROWS, ROWS, ROWS]),  # the question against the last state of every patch
    ],
)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_rows_are_left_out(models: Any, plain: Any, family: str, spec: str, rows: list[int]) -> None:
    small = models(family)
    act = lambda: herovlm.drop(small.model, tiny.batch(small), method=spec, processor=small.processor)  # noqa: E731
    with rows_of_mlps(small.model.model.vision_tower) as found:
        act()
        assert found == rows
        found.clear()
        plain(act)
        assert found == [ROWS] * DEPTH


def test_a_block_that_nobody_reads_sees_no_patch(models: Any) -> None:
    small, seen = models("llava_next"), []
    keys = small.model.model.vision_tower.encoder.layers[-1].self_attn.k_proj
    handle = keys.register_forward_hook(lambda _m, args, _o: seen.append(args[0].shape[1]))
    try:
        herovlm.drop(small.model, tiny.batch(small), method="random")
        herovlm.drop(small.model, tiny.batch(small), method="hero", processor=small.processor)
        assert seen == [1, ROWS]
    finally:
        handle.remove()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_only_real_tiles_enter_the_tower(models: Any, family: str) -> None:
    small, tiles = models(family), []
    inputs = tiny.batch(small)
    embed = small.model.model.vision_tower.embeddings
    handle = embed.register_forward_hook(lambda _m, args, _o: tiles.append(len(args[0])))
    try:
        short = herovlm.drop(small.model, inputs, method="random")
        real = sum(len(seen.valid) for seen in short.seen)
        assert tiles == [real]
        if family == "llava_next":  # the batch is padded up to its largest image
            assert real < inputs["pixel_values"].shape[0] * inputs["pixel_values"].shape[1]
    finally:
        handle.remove()


@pytest.mark.parametrize("features", [0, 2, 3, 4])
@pytest.mark.parametrize(
    "needs", [Needs(), Needs(cls=True), Needs((2,)), Needs((0, 3)), Needs(received=(3,)), Needs(keys=(2,))], ids=str
)
@torch.no_grad()
def test_any_feature_layer(features: int, needs: Needs) -> None:
    tower = make_tower()
    want = tower(pixels(), output_hidden_states=True)
    with shortcut.taken(tower, features, needs):
        got = tower(pixels(), output_hidden_states=True)
    assert len(got.hidden_states) == len(want.hidden_states)
    for mine, other in zip(got.hidden_states[: features + 1], want.hidden_states[: features + 1], strict=True):
        assert torch.equal(mine, other)
    if needs.cls:
        torch.testing.assert_close(got.last_hidden_state[:, 0], want.last_hidden_state[:, 0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("layers", [-2, 1, -1, [-2], [-1, 1], (-3, 0)])
def test_feature_layers_are_those_of_the_model(models: Any, layers: Any) -> None:
    model, states = models("llava").model, list(range(DEPTH + 1))
    want = tuple(states[layer] for layer in ([layers] if isinstance(layers, int) else layers))
    assert shortcut.feature_blocks(model, {"vision_feature_layer": layers}, DEPTH) == want
    assert shortcut.feature_blocks(model, {}, DEPTH) == (states[model.config.vision_feature_layer],)


def test_features_of_the_last_block_leave_the_tower_whole(models: Any, plain: Any) -> None:
    small = models("llava")
    inputs = {**small.inputs([[tiny.picture(20, 20)]], ["<image> a"]), "vision_feature_layer": -1}
    with rows_of_mlps(small.model.model.vision_tower) as rows:
        short = herovlm.drop(small.model, inputs, keep=0.5, question="a")
    assert rows == [ROWS] * DEPTH
    whole = plain(lambda: herovlm.drop(small.model, inputs, keep=0.5, question="a"))
    same(short.seen[0], whole.seen[0], exactly=True)


@torch.no_grad()
def test_no_trace_is_left_also_after_an_error() -> None:
    tower = make_tower()
    tower(pixels(), output_hidden_states=True)  # transformers puts its own hooks here, once
    want, before = tower(pixels()).last_hidden_state, hooks(tower)
    with shortcut.taken(tower, 3, Needs(cls=True)):
        assert hooks(tower) != before
        assert tower(pixels()).last_hidden_state.shape[1] == 1
    assert hooks(tower) == before
    with pytest.raises(RuntimeError, match="boom"), shortcut.taken(tower, 3, Needs(cls=True)):
        raise RuntimeError("boom")
    assert hooks(tower) == before
    assert torch.equal(tower(pixels()).last_hidden_state, want)


@torch.no_grad()
def test_other_threads_get_the_whole_tower() -> None:
    tower, found = make_tower(), []
    want = tower(pixels()).last_hidden_state
    with shortcut.taken(tower, 3, Needs()):
        other = threading.Thread(target=lambda: found.append(tower(pixels()).last_hidden_state))
        other.start()
        other.join()
    assert torch.equal(found[0], want)


@torch.no_grad()
def test_nothing_is_compiled_into_the_tower() -> None:
    tower = make_tower()
    want = tower(pixels()).last_hidden_state
    compiled = torch.compile(tower, backend="eager")
    with shortcut.taken(tower, 3, Needs()):
        compiled(pixels())  # traced here, used from here on
    assert torch.equal(compiled(pixels()).last_hidden_state, want)


@torch.no_grad()
def test_blocks_of_another_kind_run_whole() -> None:
    class Other(type(make_tower().encoder.layers[0])):  # type: ignore[misc]
        """Whatever it does with its norms, it is not known."""

    tower: CLIPVisionModel = make_tower()
    tower.encoder.layers[2].__class__ = Other
    with shortcut.taken(tower, 3, Needs()):
        assert tower(pixels()).last_hidden_state.shape[1] == ROWS
