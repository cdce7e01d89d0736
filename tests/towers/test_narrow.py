"""A narrowed tower equals the plain one in which, behind the cut, nobody attends to the patches left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import pytest
import tiny
import torch
from torch import Tensor, nn

from herovlm import registry
from herovlm.errors import UnsupportedError
from herovlm.plan import plan_of
from herovlm.towers import recording, relevance
from herovlm.towers.narrow import Narrow
from herovlm.types import Needs, Seen
from herovlm.view import View

DEPTH, PATCHES, CUT = 4, 16, 1  # the tiny tower; features come from block 2
ALL = Needs(
    attention=(0, 1, 2, 3),
    cls=True,
    affinity=True,
    dots=True,
    keys=(2, 3),
    queries=(2, 3),
    received=(1, 2),
    hidden=True,
)
NEITHER = Needs(attention=(0, 1, 2, 3))


def prompts(small: tiny.Tiny) -> Any:
    """Two images of different grids in one prompt, and a padded one in another."""
    pictures = [[tiny.picture(20, 60), tiny.picture(33, 33, 1)], [tiny.picture(60, 31)]]
    return small.inputs(pictures, ["USER: <image> or <image>\nWhich? ASSISTANT:", "<image>\nWhat is it? ASSISTANT:"])


def see(small: tiny.Tiny, inputs: Any, cut: Narrow | None, needs: Needs = ALL) -> tuple[Seen, ...]:
    family = registry.family(small.model)
    plan = plan_of(family, small.model, inputs)
    look = family.see(small.model, plan.inputs, plan.images, needs, cut)
    view = View(small.model, family, plan, plan, DEPTH, {cut: (needs, look)}, tuple(range(len(plan.images))))
    with mock.patch.object(relevance, "score", lambda _model, _kind, _asked, looked_at, _prompts: looked_at.sum(-1)):
        return view.seen(needs, "?", narrowed=cut)


def hooks(module: nn.Module) -> list[int]:
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()]


@contextmanager
def masked(tower: Any, block: int, through: Tensor) -> Iterator[dict[int, Tensor]]:
    """Behind a block, hide the keys of patches that did not go through, (T, N) bool, from everybody.

    Yields the CLS rows of these blocks, (T, H, N), where nobody sees the hidden ones.
    """
    hidden = torch.nn.functional.pad(~through, (1, 0))
    mask = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)[:, None, None]
    handles = [
        layer.register_forward_pre_hook(lambda _m, args: (args[0], mask, *args[2:]))
        for layer in tower.encoder.layers[block + 1 :]
    ]
    rows: dict[int, Tensor] = {}

    def look(at: int, attention: Any, states: Tensor) -> None:
        q, k = (proj(states).unflatten(-1, (attention.num_heads, -1)) for proj in (attention.q_proj, attention.k_proj))
        logits = torch.einsum("thd,tnhd->thn", q[:, 0], k) * attention.scale + mask[:, 0]
        rows[at] = logits.softmax(-1)[..., 1:]

    for at, layer in enumerate(tower.encoder.layers[block + 1 :], start=block + 1):
        hook = partial(lambda at, module, _args, kwargs: look(at, module, kwargs["hidden_states"]), at)
        handles.append(layer.self_attn.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("share", [0.5, 0.3, 0.9])
@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("family", tiny.FAMILIES)
@torch.no_grad()
def test_it_is_the_plain_tower_with_the_others_masked(models: Any, family: str, cut: int, share: float) -> None:
    small = models(family)
    inputs, tower = prompts(small), small.model.model.vision_tower
    got = see(small, inputs, Narrow(cut, share))
    whole = see(small, inputs, None)
    many = round(share * PATCHES)
    scores = torch.cat([torch.stack([s.attention[b].mean(1) for b in range(cut + 1)]).mean(0) for s in whole])
    valid = torch.cat([s.valid for s in whole])
    best = (scores + 2 * valid).topk(many, -1).indices  # valid ones first, the best by CLS attention up to the cut
    sent = torch.zeros_like(valid).scatter_(1, best, True)
    assert torch.equal(torch.cat([s.through for s in got]), sent & valid)
    with masked(tower, cut, sent) as rows:
        want = see(small, inputs, None, NEITHER)
        output = tower(registry.family(small.model).tiles(small.model, inputs), output_hidden_states=True)
    for mine, other in zip(got, want, strict=True):
        near(mine.features[mine.through], other.features[mine.through])
        assert not mine.features[~mine.through].any()
        for block in range(cut + 1):
            assert torch.equal(mine.attention[block], other.attention[block])
    for block in range(cut + 1, DEPTH):
        near(torch.cat([s.attention[block] for s in got]), rows[block])
    near(torch.cat([s.cls for s in got]), output.last_hidden_state[:, 0])
    near(torch.cat([s.affinity for s in got])[sent], output.last_hidden_state[:, 1:].sum(-1)[sent])
    near(torch.cat([s.dots for s in got])[sent], output.hidden_states[-2][:, 1:].sum(-1)[sent])
    near(torch.cat([s.hidden for s in got])[sent], output.hidden_states[-2][:, 1:][sent])


def near(mine: Tensor, other: Tensor) -> None:
    """Equal up to float32 rounding, in units of the largest value: states of the tiny tower are in the hundreds."""
    torch.testing.assert_close(mine, other, atol=1e-5 * max(1.0, float(other.abs().max())), rtol=0)


@torch.no_grad()
def test_keys_and_received_attention_stand_in_their_places(models: Any) -> None:
    small = models("llava_next")
    inputs, tower = prompts(small), small.model.model.vision_tower
    got = see(small, inputs, Narrow(CUT, 0.5))
    plain = see(small, inputs, None)
    sent = torch.cat([s.attention[2][:, 0].ne(0) for s in got])
    with masked(tower, CUT, sent), recording.recorded(tower, {"keys": (2, 3), "queries": (2, 3)}) as found:
        tower(registry.family(small.model).tiles(small.model, inputs))
    for block in (2, 3):
        mine = torch.cat([s.keys[block] for s in got])
        assert not mine[~sent].any()
        near(mine[sent], found["keys"][block][sent])
        near(torch.cat([s.queries[block] for s in got]), found["queries"][block])
    for mine, other in zip(got, plain, strict=True):
        assert torch.equal(mine.received[1], other.received[1])  # before the cut nothing changes
        assert torch.equal(mine.attention[CUT], other.attention[CUT])
        assert torch.equal(mine.received[2] > 0, mine.attention[2][:, 0] > 0)
        assert (mine.received[2].sum(1) < PATCHES / 2).all()  # half of them pay attention, to CLS too


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_batch_is_its_images(models: Any, family: str) -> None:
    small = models(family)
    together = see(small, prompts(small), Narrow(CUT, 0.5))[2]
    alone = small.inputs([[tiny.picture(60, 31)]], ["<image>\nWhat is it? ASSISTANT:"])
    (single,) = see(small, alone, Narrow(CUT, 0.5))
    assert torch.equal(together.through, single.through)
    near(together.features, single.features)


def test_later_blocks_and_the_projector_see_fewer_rows(models: Any) -> None:
    small = models("llava_next")
    parts = [layer.mlp for layer in small.model.model.vision_tower.encoder.layers]
    parts.append(small.model.model.multi_modal_projector)
    rows: list[int] = []
    handles = [p.register_forward_pre_hook(lambda _m, args: rows.append(args[0].shape[1])) for p in parts]
    try:
        see(small, prompts(small), Narrow(CUT, 0.5), Needs(cls=True))
    finally:
        for handle in handles:
            handle.remove()
    assert rows == [17, 17, 9, 1, 8]


def test_padding_goes_on_only_where_there_is_nothing_else(models: Any) -> None:
    small = models("llava_next")
    for seen in see(small, prompts(small), Narrow(CUT, 0.6), NEITHER):
        sent = seen.attention[2][:, 0].ne(0)
        assert (sent.sum(1) == 10).all()
        assert torch.equal(seen.through.sum(1), seen.valid.sum(1).clamp(max=10))
        assert seen.positions == int(seen.valid.sum()) + int(seen.grid.sent.sum())


def test_no_trace_is_left_also_after_an_error(models: Any) -> None:
    small = models("llava_next")
    inputs = prompts(small)
    plain = see(small, inputs, None, NEITHER)
    before = hooks(small.model)
    see(small, inputs, Narrow(CUT, 0.5))
    assert hooks(small.model) == before
    broken = {**inputs, "image_sizes": inputs["image_sizes"] * 0 + 7}
    with pytest.raises(Exception, match=r"."):
        see(small, broken, Narrow(CUT, 0.5))
    assert hooks(small.model) == before
    assert torch.equal(see(small, inputs, None, NEITHER)[0].features, plain[0].features)


@pytest.mark.parametrize("block", [2, 3])
def test_features_from_before_the_cut_are_an_error(models: Any, block: int) -> None:
    small = models("llava_next")
    with pytest.raises(UnsupportedError, match="features are taken behind block 2"):
        see(small, prompts(small), Narrow(block, 0.5))


def test_blocks_of_another_kind_are_an_error() -> None:
    small = tiny.make("llava")
    layer = small.model.model.vision_tower.encoder.layers[0]
    layer.__class__ = type("Other", (type(layer),), {})
    with pytest.raises(UnsupportedError, match="CLIP"):
        see(small, prompts(small), Narrow(CUT, 0.5), NEITHER)
