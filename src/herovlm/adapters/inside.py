"""Pruning between the layers of an unmodified language model: temporary hooks on one instance, no class is touched.

While a prompt is read, the layers behind a cut get fewer columns, so their caches hold fewer keys and values; while
the answer is written, their masks are cut to what they hold.  Columns keep their positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from herovlm.adapters import columns, compat, refuse
from herovlm.adapters.columns import Columns, Prompts
from herovlm.adapters.look import Passing, look
from herovlm.errors import UnsupportedError
from herovlm.types import Cut, KeptInside, Look, Reads, Short

Choose = Callable[[Look], Cut]
Plan = Callable[[int, int], Mapping[int, int]]  # positions of an image, its number -> how many stay from which layer on


@dataclass(frozen=True)
class Read:
    """A prompt that a cache holds: which columns each layer has."""

    length: int  # columns of the prompt
    batch: int
    stretches: tuple[Columns | None, ...]


class Cutter:
    """Cuts between the layers of one model instance; it is told each prompt before the model reads it."""

    def __init__(self, model: PreTrainedModel, needs: Mapping[int, Reads], plan: Plan, choose: Choose) -> None:
        self.language = refuse.language_model(model)
        self.depth = len(self.language.layers)
        self.model, self.needs, self.plan, self.choose = model, needs, plan, choose
        self.inside: tuple[KeptInside, ...] = ()  # what was kept of the last prompt, one an image
        self.armed: Prompts | None = None  # what is to be read next
        self.again = False  # whether it may be read several times
        self.plans: list[list[Mapping[int, int]]] = []  # for each prompt and image
        self.ids: Tensor | None = None  # what the model is given now
        self.passing: Passing | None = None
        self.read: Read | None = None
        self.known: WeakKeyDictionary[Any, Read] = WeakKeyDictionary()

    def arm(self, short: Short, *, again: bool = False) -> None:
        """Get ready for a prompt, which the model reads once, or `again` and again.

        Raises:
            BudgetError: the numbers that were asked for cannot be met.
        """
        self.inside, self.armed, self.again = (), None, again
        if short.kept:
            prompts = columns.prompts_of(short, self.model.config)
            number = count()
            self.plans = [[self.plan(positions, next(number)) for positions in row] for row in prompts.counts]
            self.armed = prompts

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Hook into the model while the body runs; only prompts that were armed are cut."""
        with ExitStack() as stack:

            def hooked(handle: RemovableHandle) -> None:
                stack.callback(handle.remove)

            hooked(self.model.register_forward_pre_hook(self._before_model, with_kwargs=True))
            hooked(self.model.register_forward_hook(self._after_model))
            for number, layer in enumerate(self.language.layers):
                hooked(layer.register_forward_pre_hook(self._before_layer(number), with_kwargs=True))
                if number + 1 in self.needs:
                    hooked(layer.self_attn.q_proj.register_forward_hook(self._queries(number)))
            try:
                yield
            finally:
                self.armed = self.ids = self.passing = self.read = None

    def _before_model(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note which tokens the model is given."""
        self.ids = kwargs.get("input_ids", args[0] if args else None)

    def _after_model(self, module: Any, args: Any, output: Any) -> None:
        """Check that an armed prompt was cut.

        Raises:
            UnsupportedError: the layers ran without calling our hooks.
        """
        self.passing = self.read = None
        if self.armed is not None and not self.inside:
            self.armed = None
            raise UnsupportedError(
                "the language model ran, but the hooks of its layers did not: torch.compile has compiled it already; "
                "use the uncompiled model"
            )

    def _queries(self, number: int) -> Callable[..., None]:
        """Make a hook that keeps the query projections of a layer while a prompt is read."""

        def keep(module: Any, args: Any, output: Tensor) -> None:
            if self.passing is not None:
                self.passing.queries[number] = output.detach()

        return keep

    def _before_layer(self, number: int) -> Callable[..., Any]:
        """Make the hook that runs before a layer."""

        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            hidden: Tensor = args[0] if args else kwargs.pop("hidden_states")
            if number == 0:
                self._start(hidden, kwargs)
            if self.passing is not None:
                hidden = self._reading(self.passing, number, hidden, kwargs)
            elif self.read is not None:
                self._writing(self.read, number, hidden, kwargs)
            return (hidden, *args[1:]), kwargs

        return hook

    def _start(self, hidden: Tensor, kwargs: Mapping[str, Any]) -> None:
        """Find out what this pass is: a prompt to cut, an answer behind one, or none of our business."""
        cache = compat.cache_in(kwargs)
        self.passing, self.read = None, None if cache is None else self.known.get(cache)
        if self.read is not None:
            refuse.answer(cache, len(hidden), hidden.shape[1], self.read.length, self.read.batch)
        elif self.armed is not None and self.ids is not None:
            armed = self.armed.times(max(1, len(self.ids) // len(self.armed.ids))).to(hidden.device)
            if refuse.whole(self.ids.to(hidden.device), armed.ids):
                refuse.prompt(cache, hidden.shape[1])
                rope = compat.of_layer(kwargs, "position_embeddings")
                self.passing = Passing(armed, columns.all_of(armed), cache, hidden, rope)
            else:
                self.armed = None  # another prompt, after an error kept ours away

    def _reading(self, passing: Passing, number: int, hidden: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """Cut before a layer if it is time, and give it what belongs to the columns that are left."""
        if number in self.needs:
            hidden = self._cut(passing, number, hidden, kwargs)
        kwargs.update(passing.given)
        passing.rope = kwargs["position_embeddings"]
        passing.stretches.append(passing.columns if passing.given else None)
        if number == self.depth - 1:
            self._finish(passing)
        return hidden

    def _cut(self, passing: Passing, number: int, hidden: Tensor, kwargs: Mapping[str, Any]) -> Tensor:
        """Ask the method about every prompt, and leave out what it does not keep."""
        passing.columns, left = passing.columns.to(hidden.device), passing.prompts.left
        places = columns.visual(passing.columns, passing.prompts)
        cuts: list[Cut | None] = []
        for row, where in enumerate(places):
            if row and passing.twins[row]:  # beams of one prompt are cut alike, whatever rounding does
                cuts.append(cuts[-1])
            elif not len(where):
                cuts.append(None)
            else:
                seen = look(self.language.layers, number, hidden, row, passing, self.needs[number])
                granted = tuple(plan[number] for plan in self.plans[row * len(self.plans) // len(hidden)])
                cuts.append(self.choose(Look(number, self.depth, granted=granted, **seen)))
        for row, cut in enumerate(cuts):
            passing.note(row, number, cut)
        if all(cut is None or cut.changes_nothing(len(where)) for cut, where in zip(cuts, places, strict=True)):
            return hidden
        passing.columns, hidden = columns.cut(passing.columns, hidden, places, cuts, left)
        passing.given = self._given(passing.columns, hidden, kwargs)
        return hidden

    def _given(self, left: Columns, hidden: Tensor, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Make what the layers behind a cut are given, from what they would have been given."""
        ids, rope = compat.of_layer(kwargs, "position_ids"), kwargs["position_embeddings"]
        if left.places is not None:
            ids, rope = left.places, self.language.rotary_emb(hidden, left.places)
        else:
            rows = torch.arange(len(hidden), device=hidden.device)[:, None]
            ids, *rope = (x.to(hidden.device)[rows % len(x), left.index] for x in (ids, *rope))
        visible = columns.mask(left.real, 0, hidden.shape[1], self._added(hidden))
        return {"position_ids": ids, "position_embeddings": tuple(rope), "attention_mask": visible}

    def _writing(self, read: Read, number: int, hidden: Tensor, kwargs: dict[str, Any]) -> None:
        """Give a layer the mask of what its cache holds, and the numbering that its prompt got."""
        stretch = read.stretches[number]
        if stretch is None:
            return
        later = int(compat.cache_in(kwargs).get_seq_length()) - read.length  # the first layer has the new tokens
        kwargs["attention_mask"] = columns.mask(stretch.real, later, hidden.shape[1], self._added(hidden))
        if stretch.shift is not None:
            kwargs["position_ids"] = kwargs["position_ids"] - stretch.shift[:, None].to(kwargs["position_ids"].device)
            kwargs["position_embeddings"] = self.language.rotary_emb(hidden, kwargs["position_ids"])

    def _added(self, hidden: Tensor) -> torch.dtype | None:
        """Tell the dtype of masks that are added, None for masks of bools."""
        return hidden.dtype if self.language.config._attn_implementation == "eager" else None

    def _finish(self, passing: Passing) -> None:
        """Remember the cache, and record what each layer kept of each image."""
        rows = len(passing.prompts.ids)
        self.known[passing.cache] = Read(passing.prompts.ids.shape[1], rows, tuple(passing.stretches))
        firsts = range(0, rows, rows // len(self.plans))
        self.inside = tuple(kept for row in firsts for kept in passing.record(row, self.depth))
        if not self.again:
            self.armed = None
