"""CLIP's vision tower at other scales: a smaller picture, its position table resized (SECOND, arXiv 2506.08391)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers.models.clip.modeling_clip import CLIPVisionEmbeddings

from herovlm.errors import UnsupportedError
from herovlm.ops import pyramid
from herovlm.seams import offload, parts
from herovlm.seams.hooks import changing
from herovlm.towers import recording


class Scaled(NamedTuple):
    """What a tower says of pictures at one scale."""

    features: Tensor  # (T, N, D) behind the projector
    mixed: Tensor  # (T, N, N) float32: how patches mix, mean of the blocks that the features stand behind


def side_of(config: Any, stage: int) -> int:
    """Count the patches a side of a tile that is 2 ** `stage` times as large, `config` the tower's."""
    return int(config.image_size * 2.0**stage) // int(config.patch_size)


@torch.no_grad()
def see(tower: nn.Module, projector: nn.Module, pixels: Tensor, stage: int, features: Sequence[int]) -> Scaled:
    """Look at tiles that are made smaller, bilinearly, by 2 ** `stage`; 0 is their own size.

    The tower is given the tiles and reads embeddings of the smaller ones.  Its CLS token keeps its position; the table
    of the others is resized bilinearly (transformers would do it bicubically).

    Args:
        tower: a CLIPVisionModel of transformers.
        projector: what comes behind it, patch by patch.
        pixels: (T, 3, side, side) as the processor made them.
        stage: 0, or below.
        features: how many blocks each of the feature layers stands behind.

    Raises:
        UnsupportedError: its embeddings are not CLIP's.
    """
    found = parts.those(tower, _embeds)
    if len(found) != 1:
        raise UnsupportedError("scales are known of transformers' own CLIP tower, and this has other embeddings")
    pixels = offload.beside(pixels, offload.home(tower))
    outputs = {}
    if stage < 0:
        small = _embedded(found[0], pixels, stage)
        outputs[found[0]] = lambda _: small
    blocks = tuple(range(max(features)))
    with (
        recording.recorded(tower, {"mixed": blocks}, signals={"mixed": _mixing}) as seen,
        changing({}, outputs),
    ):
        states = tower(pixels, output_hidden_states=True).hidden_states
    projected = projector(torch.cat([states[layer][:, 1:] for layer in features], -1))
    return Scaled(projected, torch.stack([seen["mixed"][block] for block in blocks]).mean(0))


def _embeds(module: nn.Module) -> bool:
    return type(module) is CLIPVisionEmbeddings


def _embedded(embeddings: Any, pixels: Tensor, stage: int) -> Tensor:
    """Embed tiles made smaller: (T, 1 + N, C)."""
    size = int(pixels.shape[-1] * 2.0**stage)
    small = interpolate(pixels.float(), (size, size), mode="bilinear", align_corners=False)
    with offload.brought(embeddings):
        patches = embeddings.patch_embedding(small.to(embeddings.patch_embedding.weight.dtype))  # (T, C, side, side)
        cls = embeddings.class_embedding.expand(len(pixels), 1, -1)
    table = embeddings.position_embedding(torch.arange(embeddings.num_positions, device=pixels.device))  # (1 + N, C)
    side = round((len(table) - 1) ** 0.5)
    square = table[1:].float().view(1, side, side, -1).permute(0, 3, 1, 2)
    places = interpolate(square, patches.shape[-2:], mode="bilinear", align_corners=False).to(table.dtype)
    made = (cls + table[:1], (patches + places).flatten(2).transpose(1, 2))
    return torch.cat(made, 1)


def _mixing(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """`pyramid.mixing` of queries and keys (T, 1 + N, D), tile by tile: (T, N, N)."""
    found = []
    for own in zip(queries.detach().float(), keys.detach().float(), strict=True):
        q, k = (x.view(len(x), heads, -1).transpose(0, 1) for x in own)  # (H, 1 + N, D / H)
        maps = (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1)
        found.append(pyramid.mixing(maps[None])[0])
    return torch.stack(found)
