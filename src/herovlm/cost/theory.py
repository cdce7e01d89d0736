"""What answering costs in theory: positions, multiply-adds and cache bytes, counted from a transformers config.

A FLOP is one addition or one multiplication in a matrix product or a convolution, as torch's own FlopCounterMode has
it; norms, activations and softmax are left out.  A causal row is counted as far as it looks: its masked half costs
nothing.  By formula: CLIP towers with the two-layer projector of a LLaVA, and LLMs with full or sliding attention, GQA
included, and gated MLPs (Llama, Mistral, Qwen2, Qwen3 and their like).

All else is counted in a run by torch (`herovlm.cost.flops`): towers of other kinds with their projectors, where the
signals of a method are what a run that records them has more than one that does not; and LLMs of which `describes` says
no (experts, linear attention), where the masked half of attention counts like the other and the bytes of the cache are
those that it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from herovlm.types import Needs

KEYS_AND_VALUES = 2


def matmul(rows: int, inner: int, columns: int) -> int:
    """FLOPs of a (rows, inner) by (inner, columns) product."""
    return 2 * rows * inner * columns


def vision(config: Any, tiles: int, blocks: int | None = None, closing: bool = False) -> int:
    """FLOPs of a CLIP vision tower over so many tiles.

    Args:
        config: the vision config.
        tiles: thumbnail included.
        blocks: blocks that all patches go through, None for all of the tower.
        closing: whether one more block follows that only the CLS token leaves (see `herovlm.towers.shortcut`).
    """
    patches, channels = _patches(config), int(config.hidden_size)
    embedding = matmul(patches, config.num_channels * config.patch_size**2, channels)
    blocks = config.num_hidden_layers if blocks is None else blocks
    whole = blocks * _clip_block(1 + patches, 1 + patches, channels, config.intermediate_size)
    return tiles * (embedding + whole + closing * _clip_block(1 + patches, 1, channels, config.intermediate_size))


def signals(config: Any, needs: Needs, tiles: int) -> int:
    """FLOPs of recording what a method needs of a CLIP vision tower, above running it.

    The text tower that embeds the question is left out: ten tokens are a thousandth of five tiles.
    """
    patches, channels = _patches(config), int(config.hidden_size)
    row = matmul(1, channels, 1 + patches)  # the heads are slices of the channels
    recorded = len(needs.attention) * row + len(needs.received) * patches * row
    compared = (needs.relevance is not None) + patches * (needs.affinity + needs.dots)
    again = vision(config, tiles) if needs.relevance == "clip" else 0  # the original CLIP sees every tile, too
    return tiles * (recorded + compared * matmul(1, channels + 1, config.projection_dim)) + again


def projector(config: Any, tiles: int) -> int:
    """FLOPs of the two-layer projector of a LLaVA over all patches of so many tiles."""
    wide, out = config.vision_config.hidden_size, config.get_text_config().hidden_size
    return tiles * _patches(config.vision_config) * (matmul(1, wide, out) + matmul(1, out, out))


def describes(config: Any, layers: nn.Module) -> bool:
    """Return whether the formulas hold for the layers of an LLM: a position goes through as many weights as they say.

    Args:
        config: the text config.
        layers: all of its layers.
    """
    wanted = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    if not all(isinstance(getattr(config, name, None), int) for name in wanted):
        return False
    sizes = [(getattr(m, "in_features", None), getattr(m, "out_features", None)) for m in layers.modules()]
    weights = sum(inner * outer for inner, outer in sizes if inner is not None and outer is not None)
    return bool(weights == config.num_hidden_layers * _weights(config))


def prefill(config: Any, lengths: int | Sequence[int]) -> int:
    """FLOPs of an LLM that reads a prompt and gives the logits of its last token.

    Args:
        config: the text config.
        lengths: positions of the prompt, or those that are left in each layer.
    """
    counts = _layers(config, lengths)
    return sum(_layer(config, i, new=n, past=0) for i, n in enumerate(counts)) + _head(config)


def decode(config: Any, lengths: int | Sequence[int]) -> int:
    """FLOPs of one more token behind a prompt; `lengths` as in `prefill`."""
    counts = _layers(config, lengths)
    return sum(_layer(config, i, new=1, past=n) for i, n in enumerate(counts)) + _head(config)


def cache(config: Any, lengths: int | Sequence[int], bytes_each: int) -> int:
    """Bytes of keys and values after so many positions; `lengths` as in `prefill`."""
    heads, width = _kv_heads(config), _head_width(config)
    held = 0
    for layer, n in enumerate(_layers(config, lengths)):
        window = _window(config, layer)
        held += n if window is None else min(n, window - 1)  # the next token completes the window
    return KEYS_AND_VALUES * heads * width * held * bytes_each


def _patches(config: Any) -> int:
    """Patches of a tile."""
    return int(config.image_size // config.patch_size) ** 2


def _clip_block(tokens: int, leaving: int, channels: int, wide: int) -> int:
    """Queries, keys, values and attention of all tokens; output projection and MLP of those that leave the block."""
    attended = 3 * matmul(tokens, channels, channels) + 2 * matmul(tokens, channels, tokens)
    return attended + matmul(leaving, channels, channels) + 2 * matmul(leaving, channels, wide)


def _layer(config: Any, layer: int, new: int, past: int) -> int:
    """One layer of the LLM over `new` positions, `past` of them in the cache already."""
    queries = config.num_attention_heads * _head_width(config)
    window = _window(config, layer)
    if window is None:
        pairs = new * past + new * (new + 1) // 2
    else:
        pairs = sum(min(past + i, window) for i in range(1, new + 1))
    return matmul(new, _weights(config), 1) + 2 * matmul(pairs, queries, 1)


def _weights(config: Any) -> int:
    """Weights of one layer of the LLM: queries and output, keys and values, and the three matrices of a gated MLP."""
    queries, keys = (heads * _head_width(config) for heads in (config.num_attention_heads, _kv_heads(config)))
    return int(config.hidden_size * (2 * queries + KEYS_AND_VALUES * keys + 3 * config.intermediate_size))


def _head(config: Any) -> int:
    return matmul(1, config.hidden_size, config.vocab_size)


def _layers(config: Any, lengths: int | Sequence[int]) -> Sequence[int]:
    return [lengths] * config.num_hidden_layers if isinstance(lengths, int) else lengths


def _head_width(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _kv_heads(config: Any) -> int:
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def _window(config: Any, layer: int) -> int | None:
    """Positions that a layer looks back over, itself included; None is all."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and kinds[layer] != "sliding_attention":
        return None
    window = getattr(config, "sliding_window", None)
    return None if window is None else int(window)
