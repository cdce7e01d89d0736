"""Choose for every image of a call: those of one geometry and budget together, where the method is a fixed graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from herovlm.budget import Auto, fits_image
from herovlm.errors import BudgetError, UnsupportedError
from herovlm.methods.base import Method
from herovlm.types import Kept, Newlines, Seen

if TYPE_CHECKING:
    from herovlm.request import Request

SIGNALS = (
    "features",
    "cls",
    "relevance",
    "affinity",
    "dots",
    "probe",
    "hidden",
    "through",
)  # tensors of their own an image
MAPS = ("attention", "keys", "queries", "received", "words")


def select(seen: Seen, request: Request, image: int = 0) -> Kept:
    """Choose what a request keeps of one image, from what was seen of it: without a model.

    An engine that runs the vision tower by itself asks this after it; `Seen.features[Kept.mask]` goes on, or
    `Kept.features` where the method made features of its own.

    Args:
        seen: what the request's method needs (`request.needs(depth)`), recorded by whoever ran the tower.
        request: what is asked for.
        image: which image of the call it is, where the budget has one value an image.

    Raises:
        BudgetError: the budget is too small, has no value for this image, or needs a model to be looked up
            (keep="auto").
        MethodError: the method cannot work with what was seen.
        UnsupportedError: the method makes the picture smaller, or something goes on behind it; or the request
            narrows the tower, which was not.
    """
    request.ends_here("select()")
    if request.method.smaller and not request.all:
        raise UnsupportedError(f"{request.method} looks at a smaller picture, which takes a model; take another method")
    if seen.through is None and request.cut(seen.depth) is not None:
        raise UnsupportedError(
            "narrow was asked for, and Seen.through is missing: this was seen through the whole tower"
        )
    fits_image(request.budget, image)
    if type(request.budget) is Auto:
        raise BudgetError(f"keep='{request.budget}' is looked up for a model: give Request.on(model), or a number")
    if request.all:
        return Kept(seen.valid, seen.grid.sent, spent=seen.counts.positions)
    with _exactly([seen]):
        budget = request.spend(image, seen)
        return request.method.keep(seen, budget, request.newlines, share=request.budget.share(image))


def together(
    method: Method,
    seen: Sequence[Seen],
    budgets: Sequence[int],
    newlines: Newlines | None,
    shares: Sequence[float | None],
) -> list[Kept]:
    """Choose exactly its budget for each image, as `Method.keep` does for one.

    Args:
        method: Chooses.
        seen: What the tower saw of each image; the same object twice is chosen for once.
        budgets: Positions of each image.
        newlines: Overrides the method's own rule.
        shares: What the user said, one an image; None where it was no share.

    Raises:
        BudgetError: a budget is too small for this method.
        MethodError: the method cannot work with what was seen.
    """
    fixed = method.traceable and (newlines or method.newlines or "none") == "none"
    groups: dict[Any, dict[int, list[int]]] = {}  # of images that may be chosen for together, the same ones together
    for i, (one, budget, share) in enumerate(zip(seen, budgets, shares, strict=True)):
        shape = (id(one.grid), id(one.valid), _signature(one)) if fixed and budget < one.positions else id(one)
        groups.setdefault((shape, budget, share), {}).setdefault(id(one), []).append(i)
    kept: dict[int, Kept] = {}
    with _exactly(seen):
        for (_, budget, share), images in groups.items():
            own = [seen[same[0]] for same in images.values()]
            if len(own) == 1:
                chosen = [method.unchecked(own[0], budget, newlines, share)]
            else:
                chosen = _mapped(method, own, budget, newlines, share)
            kept |= {i: k for same, k in zip(images.values(), chosen, strict=True) for i in same}
    return [kept[i] for i in range(len(seen))]


def _exactly(seen: Sequence[Seen]) -> AbstractContextManager[Any]:
    """Choose in the precision that methods ask for, also where the caller has torch round products (autocast)."""
    return torch.autocast(seen[0].valid.device.type, enabled=False) if seen else nullcontext()


def _mapped(
    method: Method, seen: Sequence[Seen], budget: int, newlines: Newlines | None, share: float | None
) -> list[Kept]:
    """Choose for images that differ in their signals alone, by one pass of the method over all of them."""
    first = seen[0]

    def choose(signals: Mapping[str, Any]) -> dict[str, Any]:
        kept = method.keep(replace(first, **signals), budget, newlines, share=share)
        return {f.name: value for f in fields(kept) if isinstance(value := getattr(kept, f.name), Tensor | dict)}

    made = torch.vmap(choose)(_stacked([_signals(one) for one in seen]))
    return [Kept(**{name: _at(value, i) for name, value in made.items()}, spent=budget) for i in range(len(seen))]


def _signals(seen: Seen) -> dict[str, Any]:
    """Tensors of one image that differ from those of another of its geometry."""
    single = {name: value for name in SIGNALS if (value := getattr(seen, name)) is not None}
    return single | {name: dict(value) for name in MAPS if (value := getattr(seen, name))}


def _signature(seen: Seen) -> Any:
    """Names and shapes of what was recorded."""
    signals = _signals(seen)
    shapes = {
        k: v.shape if isinstance(v, Tensor) else tuple((b, x.shape) for b, x in v.items()) for k, v in signals.items()
    }
    return tuple(shapes.items())


def _stacked(signals: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
    """Stack tensors of the same names, also those one level down."""
    first = signals[0]
    return {
        name: _side_by_side([one[name] for one in signals])
        if isinstance(value, Tensor)
        else _stacked([one[name] for one in signals])
        for name, value in first.items()
    }


def _side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Stack tensors of one shape, without a copy where they lie behind each other, as those of one look do."""
    first = parts[0]
    step, memory = first.numel(), first.untyped_storage().data_ptr()
    lie = (
        one.is_contiguous()
        and one.storage_offset() == first.storage_offset() + i * step
        and one.untyped_storage().data_ptr() == memory
        for i, one in enumerate(parts)
    )
    if not all(lie):
        return torch.stack(list(parts))
    return first.as_strided((len(parts), *first.shape), (step, *first.stride()))


def _at(value: Any, i: int) -> Any:
    """Take what belongs to one image."""
    return value[i] if isinstance(value, Tensor) else {name: one[i] for name, one in value.items()}
