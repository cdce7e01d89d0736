"""Leave out what nobody reads at the end of a vision tower: what is read comes out the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from herovlm.seams import parts
from herovlm.seams.hooks import Change, changing
from herovlm.towers.recording import attention_blocks
from herovlm.types import Needs


@contextmanager
def taken(tower: nn.Module, features: int, needs: Needs) -> Iterator[None]:
    """Carry only the CLS token through blocks whose patches nobody reads, while the body runs the tower.

    The first `features` blocks run whole: the features come from there.  The last block that is read makes keys and
    values of all patches, and goes on with the CLS token alone from its attention on; that is 9/13 of a block saved,
    and the state is the same up to the rounding of a matrix product of other height.  Blocks behind that one are given
    the CLS token and nothing else, which costs next to nothing; nobody reads what they say.

    A tower of blocks that are not exactly CLIP's runs as it always does.
    """
    layers = clip_layers(tower)
    read = last_read(needs, len(layers))
    if needs.affinity or needs.layers or not layers:
        yield
        return
    idle = layers[max(read + 1, features, 1) :]  # what the first block is given may be a feature itself
    inputs: dict[nn.Module, Change] = dict.fromkeys(idle, cls_alone)
    outputs: dict[nn.Module, Change] = {}
    if read >= features:
        # Between these two the CLS token's attention output is added to the states of all: only row 0 means anything.
        last = layers[read]
        inputs |= {last.self_attn.out_proj: cls_alone, last.layer_norm2: cls_alone}
        outputs[last] = cls_alone
    with changing(inputs, outputs):
        yield


def clip_layers(tower: nn.Module) -> list[Any]:
    """List the blocks of a tower if all of them are exactly CLIP's, whose way of calling their parts is known."""
    layers = parts.those(tower, _is_clip_layer)
    return layers if len(layers) == len(attention_blocks(tower)) else []


def _is_clip_layer(module: nn.Module) -> bool:
    return type(module) is CLIPEncoderLayer


def cls_alone(states: Tensor) -> Tensor:
    """Take the CLS token: (T, 1 + N, C) -> (T, 1, C)."""
    return states[:, :1]


def last_read(needs: Needs, depth: int) -> int:
    """Find the last block of which something is read besides the features; -1 is none."""
    if needs.cls or needs.affinity or needs.relevance == "tower":
        return depth - 1
    return max((*needs.attention, *needs.received, *needs.keys), default=-1)


def feature_blocks(model: PreTrainedModel, inputs: Mapping[str, Any], depth: int) -> tuple[int, ...]:
    """Count the blocks that each of the feature layers stands behind, as the model reads `vision_feature_layer`."""
    given = inputs.get("vision_feature_layer")
    layers = model.config.vision_feature_layer if given is None else given
    return tuple(layer % (depth + 1) for layer in ([layers] if isinstance(layers, int) else layers))
