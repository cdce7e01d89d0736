"""Temporary hooks that read what attention a vision tower pays while it runs, and leave no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from herovlm.errors import ModelError, UnsupportedError
from herovlm.seams import hooks, parts
from herovlm.types import Needs


def attention_blocks(tower: nn.Module) -> list[Any]:
    """List the self-attention modules of a tower, first block first: found by what they have, not by their path.

    Raises:
        ModelError: the tower has no blocks with separate q_proj and k_proj (CLIP has).
    """
    blocks = parts.those(tower, _attends)
    if not blocks:
        raise ModelError(
            f"{type(tower).__name__} has no attention blocks with q_proj and k_proj; herovlm reads its attention there"
        )
    return blocks


def _attends(module: nn.Module) -> bool:
    own = module._modules  # looked up by name: that is cheap, and most modules have neither
    return "q_proj" in own and "k_proj" in own and hasattr(module, "num_heads")


AT_ONCE = 2**24  # entries of attention maps that stand in memory together

Read = Callable[[Tensor, Tensor], None]  # what is called with queries (T, 1 + N, D) and keys (T, 1 + N, D)
Watch = Callable[[Any, Read], Iterator[RemovableHandle]]  # hooks a block so that its queries and keys are read, once
Signal = Callable[[Tensor, Tensor, int], Tensor]  # queries (T, 1 + N, D), keys (T, 1 + N, D), heads -> what is recorded


def cls_row(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Softmax row of the CLS query over all keys, CLS key dropped and not renormalised: (T, H, N) float32."""
    tiles, count, channels = keys.shape
    split = keys.detach().view(tiles, count, heads, -1).permute(0, 2, 3, 1)  # (T, H, D / H, 1 + N)
    query = queries[:, 0].detach().view(tiles, heads, 1, -1) * (channels // heads) ** -0.5
    logits: Tensor = (query @ split)[:, :, 0]  # (T, H, 1 + N)
    return logits.softmax(-1, dtype=torch.float32)[..., 1:]


def received(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Attention that each patch gets from all patches, averaged over heads: (T, N); CLS asks nothing, but gets some."""
    return received_by_all(queries[:, 1:], keys, heads)[:, 1:]


def received_by_all(queries: Tensor, keys: Tensor, heads: int, real: Tensor | None = None) -> Tensor:
    """Attention that each key gets from all queries, averaged over heads; a few maps of a head and a tile at a time.

    Args:
        queries: (T, m, D), as they meet the keys.
        keys: (T, n, D).
        heads: of both.
        real: (T, n) bool: patches that pay and get attention, where queries are of the same; None = all.

    Returns:
        (T, n) float32, 0 where not real.
    """
    q, k = (_heads(x, heads).transpose(1, 2).flatten(0, 1) for x in (queries, keys))  # (T * H, m or n, D / H)
    pays = torch.ones_like(q[..., 0]) if real is None else real.repeat_interleave(heads, 0).float()  # (T * H, m)
    maps = max(1, AT_ONCE // (q.shape[1] * k.shape[1]))
    lines, found = max(1, AT_ONCE // (maps * k.shape[1])), []
    for some, other, own in zip(*(torch.split(x, maps) for x in (q, k, pays)), strict=True):
        total, turned = torch.zeros_like(other[..., 0]), other.transpose(1, 2) * other.shape[-1] ** -0.5
        for line, weight in zip(torch.split(some, lines, 1), torch.split(own, lines, 1), strict=True):
            logits = line @ turned
            logits = logits if real is None else logits.masked_fill(own[:, None] == 0, -torch.inf)
            total += (weight[:, None] @ logits.softmax(-1))[:, 0]
        found.append(total)
    return torch.cat(found).view(len(keys), heads, -1).mean(1)


def keys_alone(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Keys of a tower without a CLS token, heads not split: (T, N, D)."""
    return keys.detach().float()


def patch_keys(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Keys of all patches, heads not split: (T, N, D)."""
    return keys[:, 1:].detach().float()


def cls_query(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Query of the CLS token, not scaled, and its key, heads not split: (T, 2, D)."""
    return torch.stack((queries[:, 0], keys[:, 0]), 1).detach().float()


SIGNALS: dict[str, Signal] = {"attention": cls_row, "received": received, "keys": patch_keys, "queries": cls_query}


def wanted(needs: Needs) -> dict[str, tuple[int, ...]]:
    """Return which of `SIGNALS` a method needs of which blocks."""
    return {name: getattr(needs, name) for name in SIGNALS}


def projections(attention: Any, read: Read) -> Iterator[RemovableHandle]:
    """Watch blocks that attend by what their q_proj and k_proj give."""
    return both(attention.q_proj, attention.k_proj, read)


@contextmanager
def recorded(
    tower: nn.Module,
    blocks_of: Mapping[str, tuple[int, ...]],
    watch: Watch = projections,
    signals: Mapping[str, Signal] = SIGNALS,
    among: Sequence[Any] | None = None,
) -> Iterator[dict[str, dict[int, Tensor]]]:
    """Record signals of the wanted blocks while the body runs the tower once, and of no other thread's run.

    A CLS row costs O(H * N) memory a block and tile: the attention of the other queries is never formed, so sdpa and
    FlashAttention stay in use.  Everything is float32.

    Args:
        tower: the vision tower, whose blocks `attention_blocks` finds.
        blocks_of: name of a signal -> the blocks it is wanted of.
        watch: how queries and keys of a block are read, behind all that is done to them before they meet.
        signals: what is made of them.
        among: its blocks, where `attention_blocks` does not find them.

    Yields:
        Dicts that fill while the tower runs: name -> block -> tensor.

    Raises:
        UnsupportedError: a block was not recorded, e.g. because the tower was compiled before.
    """
    attention = attention_blocks(tower) if among is None else among
    found: dict[str, dict[int, Tensor]] = {name: {} for name in blocks_of}
    with ExitStack() as hooked:
        for block in sorted({block for blocks in blocks_of.values() for block in blocks}):
            names = [name for name, blocks in blocks_of.items() if block in blocks]
            into = {name: found[name] for name in names}
            for handle in watch(attention[block], _reader(block, attention[block].num_heads, into, signals)):
                hooked.callback(handle.remove)
        yield found
    missing = sorted({block for name, blocks in blocks_of.items() for block in blocks if block not in found[name]})
    if missing:
        raise UnsupportedError(
            f"the attention of blocks {missing} was not recorded although the vision tower ran; hooks do not fire in "
            "a tower that torch.compile has compiled already: use the uncompiled model, or compile only "
            "model.language_model"
        )


@contextmanager
def cls_rows(tower: nn.Module, blocks: tuple[int, ...]) -> Iterator[dict[int, Tensor]]:
    """Record the softmax attention of the CLS query in the named blocks: block -> (T, H, N) float32."""
    with recorded(tower, {"attention": blocks}) as found:
        yield found["attention"]


@contextmanager
def inputs_of(module: nn.Module, wanted: bool) -> Iterator[list[Tensor]]:
    """Record the first argument of each call of a module (the projector's: states as the tower gives them)."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0].detach())

    with ExitStack() as hooked:
        if wanted:
            hooked.callback(hooks.before(module, keep, hooks.this_thread()).remove)
        yield seen


@contextmanager
def group_means(blocks: Sequence[nn.Module], groups: Sequence[Sequence[int]]) -> Iterator[dict[int, Tensor]]:
    """Average the states behind the blocks of each group while the body runs the tower once: group -> (T, 1 + N, C).

    Raises:
        UnsupportedError: the blocks are not known, so that nobody hooks them, or were compiled before.
    """
    means: dict[int, Tensor] = {}
    mine = hooks.this_thread()

    def add(number: int, size: int, output: Tensor | tuple[Tensor, ...]) -> None:
        states = (output if isinstance(output, Tensor) else output[0]).detach() / size
        means[number] = means[number] + states if number in means else states

    with ExitStack() as hooked:
        for number, group in enumerate(groups):
            for layer in group if blocks else ():
                act = partial(lambda n, size, _module, _args, output: add(n, size, output), number, len(group))
                hooked.callback(hooks.after(blocks[layer - 1], act, mine).remove)
        yield means
    if len(means) < len(groups):
        raise UnsupportedError(
            "the states of the vision tower's layers were not recorded: its blocks are not those of transformers' own "
            "CLIP, or torch.compile has compiled them already; use the uncompiled model"
        )


def stacked(means: Mapping[int, Tensor]) -> Tensor | None:
    """Put the means of groups side by side, (T, K, 1 + N, C), if there are any."""
    return torch.stack([means[group] for group in sorted(means)], 1) if means else None


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Record what each call of a module gives (the projector's: features of all tiles, not yet packed)."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Tensor) -> None:
        seen.append(output.detach())

    with ExitStack() as hooked:
        hooked.callback(hooks.after(module, keep, hooks.this_thread()).remove)
        yield seen


def both(query: nn.Module, key: nn.Module, read: Read) -> Iterator[RemovableHandle]:
    """Hook the modules that give queries and keys, and read when both have been seen."""
    mine = hooks.this_thread()
    seen: dict[str, Tensor] = {}

    def put(side: str, output: Tensor) -> None:
        seen[side] = output
        if len(seen) == 2:
            read(seen["q"], seen["k"])
            seen.clear()

    yield hooks.after(query, lambda _module, _args, output: put("q", output), mine)
    yield hooks.after(key, lambda _module, _args, output: put("k", output), mine)


def _reader(block: int, heads: int, into: Mapping[str, dict[int, Tensor]], signals: Mapping[str, Signal]) -> Read:
    """Make what keeps the wanted signals of one block."""

    def read(queries: Tensor, keys: Tensor) -> None:
        for name, blocks in into.items():
            blocks[block] = signals[name](queries, keys, heads)

    return read


def _heads(projected: Tensor, heads: int) -> Tensor:
    """Split the heads of a projection, in float32: (T, n, D) -> (T, n, H, D / H)."""
    return projected.detach().float().view(*projected.shape[:-1], heads, -1)
