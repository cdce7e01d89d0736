"""A tower at other scales is a copy of it whose position table was resized, as the authors make one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

import herovlm
from herovlm import demo
from herovlm.demo import scenes
from herovlm.errors import UnsupportedError
from herovlm.ops import pyramid
from herovlm.prompt.template import prompt
from herovlm.seams.hooks import Hook
from herovlm.towers import scales


@pytest.fixture(scope="module")
def ready():
    return demo.load()


@pytest.fixture(scope="module")
def pixels(ready):
    _, processor = ready
    board = scenes.make(3)
    text = prompt(processor, "Is there a red star?")
    return processor(images=[[board.image]], text=[text], return_tensors="pt")


def clean(module: nn.Module) -> bool:
    """Whether no hook of ours is left; transformers leaves its own."""
    left = [hook for m in module.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    return not any(isinstance(hook, Hook) for hook in left)


def resized(tower: nn.Module, side: int) -> nn.Module:
    """A copy of a CLIP tower for tiles of `side` patches."""
    made = copy.deepcopy(tower)
    table = made.embeddings.position_embedding.weight.data
    old = round((len(table) - 1) ** 0.5)
    square = table[1:].T.view(1, -1, old, old)
    new = interpolate(square, (side, side), mode="bilinear", align_corners=False).flatten(2)[0].T
    made.embeddings.position_embedding = nn.Embedding.from_pretrained(torch.cat((table[:1], new)))
    made.embeddings.image_size = side * made.embeddings.patch_size
    made.embeddings.position_ids = torch.arange(side * side + 1)[None]
    made.set_attn_implementation("eager")
    return made


@torch.no_grad()
@pytest.mark.parametrize("stage", [-3, -2, -1, 0])
def test_a_smaller_stage_is_a_copy_of_the_tower_with_a_resized_table(ready, pixels, stage) -> None:
    model, _ = ready
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    thumbnail = pixels["pixel_values"][0, :1]
    found = scales.see(tower, projector, thumbnail, stage, (11,))
    side = scales.side_of(model.config.vision_config, stage)
    extent = side * model.config.vision_config.patch_size
    small = interpolate(thumbnail, (extent, extent), mode="bilinear", align_corners=False)
    out = resized(tower, side)(small, output_hidden_states=True, output_attentions=True)
    assert torch.allclose(found.features, projector(out.hidden_states[-2][:, 1:]), atol=1e-4)
    blocks = torch.stack([pyramid.mixing(block) for block in out.attentions[:-1]])
    assert torch.allclose(found.mixed, blocks.mean(0), atol=1e-6)
    assert torch.allclose(found.mixed.sum(-1), torch.ones(1, side * side), atol=1e-5)
    assert clean(tower)


def test_stage_0_is_what_is_seen_of_the_thumbnail(ready, pixels) -> None:
    model, _ = ready
    view = herovlm.see(model, pixels, herovlm.Request.of("full", keep=1.0))
    (seen,) = view.seen(herovlm.Needs())
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    found = scales.see(tower, projector, pixels["pixel_values"][0, :1], 0, (11,))
    assert torch.allclose(found.features[0], seen.features[0], atol=1e-4)


def test_other_towers_are_refused(ready, pixels) -> None:
    with pytest.raises(UnsupportedError, match="embeddings"):
        scales.see(nn.Linear(2, 2), nn.Identity(), pixels["pixel_values"][0, :1], -1, (1,))
