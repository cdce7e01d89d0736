"""Where the last token of a prompt looks in every layer of an unmodified language model, read while it runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from herovlm.errors import UnsupportedError
from herovlm.seams import hooks, refuse
from herovlm.towers.recording import both

Rope = tuple[Tensor, Tensor]  # cosines and sines, (B or 1, n, C)


@contextmanager
def last_rows(model: PreTrainedModel, real: Tensor) -> Iterator[list[Tensor]]:
    """Record the attention of the last column while the body lets the model read prompts, as a whole and once.

    One row a layer is formed, of queries and keys as they meet: sdpa stays in use.

    Args:
        model: its language model must be one that `refuse.language_model` accepts.
        real: (B, n) bool: not padding.

    Yields:
        A list that fills with the rows of each layer, (B, n) float32, mean of the heads.

    Raises:
        UnsupportedError: the prompts did not pass the layers so.
    """
    layers, mine, found = refuse.language_model(model).layers, hooks.this_thread(), list[Tensor]()
    ropes: list[Rope] = []

    def enter(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        ropes[:] = [given["position_embeddings"]]

    def read(attention: Any, queries: Tensor, keys: Tensor) -> None:
        if keys.shape[:2] == real.shape:
            cos, sin = ropes[0]
            query = _turned(attention, queries[:, -1:], (cos[:, -1:], sin[:, -1:]))
            found.append(_row(query[:, :, 0], _turned(attention, keys, (cos, sin)), real))

    with ExitStack() as hooked:
        for layer in layers:
            attention = layer.self_attn
            hooked.callback(hooks.before(attention, enter, mine, keywords=True).remove)
            for handle in both(attention.q_proj, attention.k_proj, partial(read, attention)):
                hooked.callback(handle.remove)
        yield found
    if len(found) != len(layers):
        raise UnsupportedError(
            f"attention was read in {len(found)} of {len(layers)} layers: somebody changed the prompt between "
            "generate() and the language model, or lets it read in another way"
        )


def _row(query: Tensor, keys: Tensor, real: Tensor) -> Tensor:
    """Attend with queries (B, H, C) to keys (B, G, n, C), G divides H; mean of the heads, (B, n)."""
    batch, groups, _, channels = keys.shape
    grouped = query.float().view(batch, groups, -1, channels)
    logits = grouped @ keys.float().transpose(2, 3) * channels**-0.5  # (B, G, H / G, n)
    rows: Tensor = logits.masked_fill(~real.to(logits.device)[:, None, None], -float("inf")).softmax(-1)
    return rows.mean((1, 2))


def _turned(attention: Any, projected: Tensor, rope: Rope) -> Tensor:
    """Split heads and rotate by position with the model's own function: (B, n, H * C) -> (B, H, n, C)."""
    heads = projected.detach().view(*projected.shape[:2], -1, attention.head_dim).transpose(1, 2)
    apply = sys.modules[type(attention).__module__].apply_rotary_pos_emb
    turned: Tensor = apply(heads, heads, *rope)[0]
    return turned
