"""The way back: fewer placeholders, the same padding side, and the features that were kept, gathered by index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from herovlm.errors import BudgetError, MethodError, UnsupportedError
from herovlm.plan import Plan
from herovlm.prompt import positions
from herovlm.prompt.positions import Stay
from herovlm.seams import offload, refuse
from herovlm.types import Kept, Seen, Short

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from herovlm.families.base import Family


class Source(NamedTuple):
    """Where the features of an image lie."""

    features: Tensor  # (cells, D): of this image, or of all that were looked at with it
    start: int  # which row is the first of this image
    beside: tuple[Tensor, ...] = ()  # (cells, D) each: what else the language model reads of every position


def rebuild(
    family: Family,
    model: PreTrainedModel,
    plan: Plan,
    seen: Sequence[Seen],
    kept: Sequence[Kept],
    sources: Sequence[Source],
    *,
    original: bool = False,
) -> Short:
    """Make the shorter inputs.

    When everything was kept, the prompt is left exactly as it was.  `original` keeps the position ids of the untouched
    prompt; otherwise the short prompt is numbered 0, 1, ... as usual.

    Raises:
        UnsupportedError: a combination that would be silently wrong.
    """
    prompt = plan.prompt
    if not seen:
        return Short(dict(plan.inputs), (), (), partial(_columns, plan, (), ()), prompt.image, whole=True)
    refuse.position_options(plan.inputs, prompt.full_positions, original)
    rest = {name: value for name, value in plan.inputs.items() if name not in family.vision}
    places = _places(seen, kept)
    features, beside = _features(seen, kept, sources, places)
    whole = all(_whole(s, k) for s, k in zip(seen, kept, strict=True))

    free = "compact" in family.positions  # whether a short prompt may be numbered anew
    numbers = None
    if original if free and not whole else not free:
        numbers = rest.get("position_ids")
        numbers = family.position_ids(model, plan.inputs, prompt, plan.images) if numbers is None else numbers
        rest["position_ids"] = numbers.to(rest["input_ids"].device)
    if not whole:
        rest = _shorter(rest, plan, [k.positions for k in kept], partial(_stay, plan, seen, places), original)
        if original and free:
            refuse.original_positions(model, prompt.length(plan.inputs))
    sent: dict[int, int] = {}
    for row, own in zip(plan.rows, features, strict=True):
        sent[row] = sent.get(row, 0) + len(own)
    family.accepts(model, list(sent.values()))
    rest["mm_encoder_outputs"] = family.encoded(features, beside, plan.rows)
    return Short(rest, tuple(seen), tuple(kept), partial(_columns, plan, seen, places), prompt.image, whole)


def with_features(
    family: Family, model: PreTrainedModel, plan: Plan, features: Sequence[Tensor], rows: Sequence[int]
) -> Short:
    """Make inputs whose prompts have features of any making in the place of their pictures' own.

    Args:
        family: the model's.
        model: the model.
        plan: of the call.
        features: of each image of the prompts in `rows`, (n, D) as the language model reads them.
        rows: prompts of the plan, any of them more than once.

    Raises:
        UnsupportedError: placeholders that are hidden, or not side by side, or more positions than the model reads.
    """
    taken, _ = plan.take(rows)
    if not taken.alike:
        raise UnsupportedError("other features need placeholders side by side in the prompt, and none of them hidden")
    counts = [len(own) for own in features]
    family.accepts(model, counts)
    rest = _shorter(dict(taken.inputs), taken, counts, partial(taken.short_columns, counts), original=False)
    rest["mm_encoder_outputs"] = family.encoded(list(features), [()] * len(features), taken.rows)
    return Short(rest, (), (), None, taken.prompt.image)


def features(seen: Sequence[Seen], kept: Sequence[Kept], sources: Sequence[Source]) -> list[Tensor]:
    """Gather what the language model reads of each image, (kept positions, D)."""
    return _features(seen, kept, sources, _places(seen, kept))[0]


def settled(seen: Sequence[Seen], kept: Sequence[Kept], original: bool) -> list[Kept]:
    """Check what methods kept that are no fixed graph, and count it: the host waits once for all of them.

    Raises:
        MethodError: a method kept padding.
        UnsupportedError: newlines that the untouched prompt has no position for, with its positions.
    """
    open_ = [i for i, one in enumerate(kept) if one.spent is None]
    if not open_:
        return list(kept)
    told = []
    for one, s in ((kept[i], seen[i]) for i in open_):
        patches, newlines, beyond = one.mask.sum(), one.newlines.sum(), (one.newlines & ~s.grid.sent).any()
        told.append(torch.stack([patches, newlines, (one.mask & ~s.valid).any().long(), beyond.long()]))
    found = list(kept)
    for i, (patches, newlines, padding, beyond) in zip(open_, torch.stack(told).tolist(), strict=True):
        if not patches:
            raise BudgetError(f"not one patch of {seen[i].counts.patches:,} is kept by this method; keep more")
        if padding:
            raise MethodError("the method kept patches that lie wholly in padding; Kept.mask must be within Seen.valid")
        if original and beyond:
            raise UnsupportedError(
                "positions='original' with newlines of the padded canvas: the untouched prompt has no position for "
                "them; use positions='compact', or newlines='touched', 'all' or 'none'"
            )
        found[i] = replace(kept[i], spent=patches + newlines, beyond=bool(beyond))
    return found


class Places(NamedTuple):
    """Where what was kept of an image stands."""

    slots: Tensor  # (kept positions,) int64, ascending: slots of the order
    order: Tensor  # (kept positions,) int64: what stands there, as in `Grid.order`


def _places(seen: Sequence[Seen], kept: Sequence[Kept]) -> list[Places]:
    """Find what was kept, in the order the LLM reads it; images of one geometry that keep equally many go together."""
    found: dict[int, Places] = {}
    alike: dict[tuple[int, int], list[int]] = {}
    for i, (s, k) in enumerate(zip(seen, kept, strict=True)):
        alike.setdefault((id(s.grid), k.positions), []).append(i)
    for (_, count), images in alike.items():
        order = seen[images[0]].grid.order
        flat = [torch.cat((kept[i].mask.flatten(), kept[i].newlines.flip(0))) for i in images]  # newline r is at -1 - r
        on = (flat[0][None] if len(flat) == 1 else torch.stack(flat))[:, order]
        slots = on.argsort(dim=1, descending=True, stable=True)[:, :count]  # nonzero, of a number that is known
        found |= {i: Places(*own) for i, *own in zip(images, slots.unbind(), order[slots].unbind(), strict=True)}
    return [found[i] for i in range(len(seen))]


def _features(
    seen: Sequence[Seen], kept: Sequence[Kept], sources: Sequence[Source], places: Sequence[Places]
) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
    """Gather embeddings for the LLM in slot order, (kept positions, D) an image; one gather for all of a source.

    Returns:
        The embeddings, and what else is read of each position.
    """
    found: list[Tensor] = []
    beside: list[tuple[Tensor, ...]] = []
    for run in _runs(sources):
        source, newline = sources[run[0]].features, seen[run[0]].newline
        counts = [len(places[i].order) for i in run]
        order = _joined([places[i].order for i in run])
        rows = order  # a newline is negative: some row or other, which is replaced
        if any(sources[i].start for i in run):
            starts = torch.tensor([sources[i].start for i in run]).repeat_interleave(torch.tensor(counts))
            rows = rows + offload.beside(starts, rows.device)
        values = source[rows]
        if newline is not None:
            torch.where(order.lt(0)[:, None], newline.to(values), values, out=values)
        found += torch.split(values, counts)
        others = [torch.split(other[rows], counts) for other in sources[run[0]].beside]
        beside += [tuple(other[i] for other in others) for i in range(len(run))]
    for i, own in enumerate(kept):
        if own.features is not None:  # made by the method, in the order of the mask
            order = places[i].order
            rows = (own.mask.flatten().cumsum(0) - 1)[order.clamp(min=0)].clamp(min=0)
            found[i] = torch.where(order.lt(0)[:, None], found[i], own.features.to(found[i])[rows])
    return found, beside


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _runs(sources: Sequence[Source]) -> list[list[int]]:
    """Group neighbouring images whose features lie together."""
    runs: list[list[int]] = []
    for i, source in enumerate(sources):
        if runs and sources[runs[-1][0]].features is source.features:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def _whole(seen: Seen, kept: Kept) -> bool:
    """Return whether a record keeps exactly what the untouched model sends."""
    same = seen.resized is None and kept.positions == seen.counts.positions and not kept.beyond
    return same and kept.features is None


def _columns(plan: Plan, seen: Sequence[Seen], places: Sequence[Places]) -> list[Tensor]:
    """List the columns of each prompt that stay, ascending, beside the features."""
    return _stay(plan, seen, places).rows


def _stay(plan: Plan, seen: Sequence[Seen], places: Sequence[Places]) -> Stay:
    """Find the columns of each prompt that stay, beside the features.

    A newline of the padded canvas that the untouched model does not send repeats the placeholder before it.
    """
    visual = []
    for image, columns, s, (own, _) in zip(plan.images, plan.places, seen, places, strict=True):
        if s.resized is None:
            visual.append(offload.beside(columns[image.rank], own.device)[own])
        else:  # a smaller picture stands in the first columns of the one that came
            visual.append(offload.beside(columns[: len(own)], own.device))
    return positions.columns(plan.prompt, plan.rows, visual)


def _shorter(
    inputs: dict[str, Any], plan: Plan, counts: Sequence[int], find: Callable[[], Stay], original: bool
) -> dict[str, Any]:
    """Shorten everything that is as long as the prompt; `original` also the positions, else there are none."""
    prompt, short, device = plan.prompt, dict(inputs), inputs["input_ids"].device
    given = {name: fill for name, fill in positions.GATHERED.items() if isinstance(inputs.get(name), Tensor)}
    numbers = short.pop("position_ids", None)
    true = find() if given or original or not plan.alike else None
    stay = plan.short_columns(counts) if true is None or plan.alike else true
    for name, values, fill in (("input_ids", prompt.ids, prompt.pad), ("attention_mask", prompt.mask, 0)):
        short[name] = offload.beside(positions.gather(offload.beside(values, stay.index.device), stay, fill), device)
    if true is None:
        return short
    for name, fill in given.items():
        short[name] = positions.gather(inputs[name], true, fill)
    if original and numbers is not None:
        short["position_ids"] = positions.gather(numbers, true, 0)
        # Gaps in the positions look like packed sequences to transformers when there is no cache (a silently wrong
        # mask); the key also turns `generate(**short, use_cache=False)` into a TypeError.
        short["use_cache"] = True
    return short
