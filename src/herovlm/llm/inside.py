"""Pruning between the layers of an unmodified language model: temporary hooks on one instance, no class is touched.

While a prompt is read, the layers behind a cut get fewer columns, so their caches hold fewer keys and values; while
the answer is written, their masks are cut to what they hold.  Columns keep their positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from threading import local
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from herovlm.errors import UnsupportedError
from herovlm.llm import columns
from herovlm.llm.batch import Batch, signals
from herovlm.llm.columns import Columns, Prompts
from herovlm.seams import compat, hooks, language_models, refuse, scope
from herovlm.seams.shared import Shared
from herovlm.stage import Passage
from herovlm.types import Cut, KeptInside, NeedsInside, SeenInside, Short

Choose = Callable[[SeenInside], Cut]
Plan = Callable[[int, int], Mapping[int, int]]  # positions of an image, its number -> how many stay from which layer on


@dataclass(frozen=True)
class Held:
    """A prompt that a cache holds: which columns each layer has."""

    length: int  # columns of the prompt
    batch: int
    segments: tuple[Columns | None, ...]


@dataclass
class Order:
    """A prompt that is to be cut when the model reads it, and what was kept of it once it has."""

    prompts: Prompts
    plans: list[list[Mapping[int, int]]]  # for each prompt and image
    inside: tuple[KeptInside, ...] = ()  # one an image


@dataclass
class Reading(Batch):
    """A prompt on its way through the layers, and by whose order."""

    order: Order = field(kw_only=True)


class Pass(local):
    """What the model is doing in this thread: a thread reads one thing at a time."""

    order: Order | None = None  # what is to be read next, once
    ids: Tensor | None = None  # what the model is given
    begun: bool = False  # whether the first layer has seen it
    batch: Reading | None = None
    read: Held | None = None

    def end(self) -> None:
        """Forget everything."""
        self.order = self.ids = self.batch = self.read = None


class Cutter(Shared):
    """Cuts between the layers of one model instance; it is told each prompt before the model reads it.

    Any number of threads may do so: a prompt that is read once belongs to the thread that armed it, one that is read
    again and again to all that belong to the context in which the hooks were put in, and an answer goes by its cache.
    """

    def __init__(self, model: PreTrainedModel, needs: Mapping[int, NeedsInside], plan: Plan, choose: Choose) -> None:
        super().__init__()
        self.language = refuse.language_model(model)
        self.depth = len(self.language.layers)
        language_models.cut_from(model.config, min(needs, default=self.depth))
        self.model, self.needs, self.plan, self.choose = model, needs, plan, choose
        self.now = Pass()
        self.standing: Order | None = None  # a prompt that may be read several times
        self.last: Order | None = None
        self.known: WeakKeyDictionary[Any, Held] = WeakKeyDictionary()

    @property
    def inside(self) -> tuple[KeptInside, ...]:
        """What was kept of the last prompt, one record an image."""
        return () if self.last is None else self.last.inside

    def prepare(self, short: Short, *, again: bool = False) -> Order | None:
        """Get ready for a prompt, which the model reads once, or `again` and again; None where it has no pictures.

        Raises:
            BudgetError: the numbers that were asked for cannot be met.
        """
        order = None
        if short.kept:
            prompts = columns.prompts_of(short, self.model.config)
            number = count()
            plans = [[self.plan(positions, next(number)) for positions in row] for row in prompts.counts]
            order = Order(prompts, plans)
        if again:
            self.standing = order
        else:
            self.now.order = order
        self.last = order
        return order

    def generate_kwargs(self, setting: Callable[[str], Any]) -> Mapping[str, Any]:
        """Return nothing: greedy, sampling and beams go on as they are.

        Raises:
            UnsupportedError: an option does not go with pruning inside the language model.
        """
        refuse.generation(setting)
        return {}

    def check_call(self, given: Mapping[str, Any]) -> None:
        """Check the arguments of a direct `model(...)`.

        Raises:
            UnsupportedError: it would go silently wrong.
        """
        refuse.call(given)

    def finish(self, passage: Passage | None) -> None:
        """Check that a prompt with pictures was cut inside the language model.

        Raises:
            UnsupportedError: it did not reach the model as it was sent.
        """
        if passage is not None and not passage.inside:
            raise UnsupportedError(
                "nothing was pruned inside the language model: somebody changed the prompt between generate() and the "
                "model, or reads it in another way; use a method before the language model"
            )

    def forget(self) -> None:
        """Forget what this thread was to read, if it has not."""
        self.now.end()

    def _hook(self) -> None:
        """Put the hooks in; each finds out by itself whom a call belongs to."""

        def into(module: Any, act: Callable[..., Any]) -> None:
            self.hooked.callback(hooks.before(module, act, hooks.everybody, keywords=True).remove)

        def behind(module: Any, act: Callable[..., Any]) -> None:
            self.hooked.callback(hooks.after(module, act, hooks.everybody).remove)

        into(self.model, self._before_model)
        behind(self.model, self._after_model)
        for number, layer in enumerate(self.language.layers):
            into(layer, self._before_layer(number))
            if number + 1 in self.needs:
                behind(layer.self_attn.q_proj, self._queries(number))

    def _due(self) -> Order | None:
        """Find what is to be cut if the model reads it now."""
        return self.now.order or (self.standing if scope.innermost(self) else None)

    def _before_model(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note which tokens the model is given."""
        now = self.now
        now.ids, now.begun = kwargs.get("input_ids", args[0] if args else None), False
        now.batch = now.read = None

    def _after_model(self, module: Any, args: Any, output: Any) -> None:
        """Check that an armed prompt was cut.

        Raises:
            UnsupportedError: the layers ran without calling our hooks.
        """
        now, due = self.now, self._due()
        missed = now.batch is not None or (due is not None and not now.begun)
        now.batch = now.read = None
        if missed:
            now.order = None
            raise UnsupportedError(
                "the language model ran, but the hooks of its layers did not: torch.compile has compiled it already; "
                "use the uncompiled model"
            )

    def _queries(self, number: int) -> Callable[..., None]:
        """Make a hook that keeps the query projections of a layer while a prompt is read."""

        def keep(module: Any, args: Any, output: Tensor) -> None:
            if self.now.batch is not None:
                self.now.batch.queries[number] = output.detach()

        return keep

    def _before_layer(self, number: int) -> Callable[..., Any]:
        """Make the hook that runs before a layer."""

        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            now = self.now
            hidden: Tensor = args[0] if args else kwargs["hidden_states"]
            if number == 0:
                self._start(hidden, kwargs)
            if now.batch is None and now.read is None:
                return None
            kwargs.pop("hidden_states", None)
            if now.batch is not None:
                hidden = self._reading(now.batch, number, hidden, kwargs)
            elif now.read is not None:
                self._writing(now.read, number, hidden, kwargs)
            return (hidden, *args[1:]), kwargs

        return hook

    def _start(self, hidden: Tensor, kwargs: Mapping[str, Any]) -> None:
        """Find out what this pass is: a prompt to cut, an answer behind one, or none of our business."""
        now, due = self.now, self._due()
        cache = compat.cache_in(kwargs)
        now.begun, now.batch, now.read = True, None, None if cache is None else self.known.get(cache)
        if now.read is not None:
            refuse.answer(cache, len(hidden), hidden.shape[1], now.read.length, now.read.batch)
        elif due is not None and now.ids is not None:
            prompts = due.prompts.times(max(1, len(now.ids) // len(due.prompts.ids))).to(hidden.device)
            if refuse.whole(now.ids.to(hidden.device), prompts.ids):
                refuse.prompt(cache, hidden.shape[1])
                rope = compat.of_layer(kwargs, "position_embeddings")
                now.batch = Reading(prompts, columns.all_of(prompts), cache, hidden, rope, order=due)
            else:
                now.order = None  # another prompt, after an error kept ours away

    def _reading(self, batch: Reading, number: int, hidden: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """Cut before a layer if it is time, and give it what belongs to the columns that are left."""
        if number in self.needs:
            hidden = self._cut(batch, number, hidden, kwargs)
        kwargs.update(batch.given)
        batch.rope = kwargs["position_embeddings"]
        batch.segments.append(batch.columns if batch.given else None)
        if number == self.depth - 1:
            self._finish(batch)
        return hidden

    def _cut(self, batch: Reading, number: int, hidden: Tensor, kwargs: Mapping[str, Any]) -> Tensor:
        """Ask the method about every prompt, and leave out what it does not keep."""
        plans = batch.order.plans
        batch.columns, left = batch.columns.to(hidden.device), batch.prompts.left
        places = columns.visual(batch.columns, batch.prompts)
        cuts: list[Cut | None] = []
        for row, where in enumerate(places):
            if row and batch.duplicates[row]:  # beams of one prompt are cut alike, whatever rounding does
                cuts.append(cuts[-1])
            elif not len(where):
                cuts.append(None)
            else:
                seen = signals(self.language.layers, number, hidden, row, batch, self.needs[number])
                granted = tuple(plan[number] for plan in plans[row * len(plans) // len(hidden)])
                cuts.append(self.choose(SeenInside(number, self.depth, granted=granted, **seen)))
        for row, cut in enumerate(cuts):
            batch.note(row, number, cut)
        if all(cut is None or cut.changes_nothing(len(where)) for cut, where in zip(cuts, places, strict=True)):
            return hidden
        batch.columns, hidden = columns.cut(batch.columns, hidden, places, cuts, left)
        batch.given = self._given(batch.columns, hidden, kwargs)
        return hidden

    def _given(self, left: Columns, hidden: Tensor, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Make what the layers behind a cut are given, from what they would have been given."""
        ids, rope = compat.of_layer(kwargs, "position_ids"), kwargs["position_embeddings"]
        if left.places is not None:
            language_models.renumbered(self.language)
            ids, rope = left.places, self.language.rotary_emb(hidden, left.places)
        else:
            rows = torch.arange(len(hidden), device=hidden.device)[:, None]
            ids, *rope = (x if x is None else x.to(hidden.device)[rows % len(x), left.index] for x in (ids, *rope))
        visible = columns.mask(left.real, 0, hidden.shape[1], self._added(hidden))
        return {"position_ids": ids, "position_embeddings": tuple(rope), "attention_mask": visible}

    def _writing(self, read: Held, number: int, hidden: Tensor, kwargs: dict[str, Any]) -> None:
        """Give a layer the mask of what its cache holds, and the numbering that its prompt got."""
        segment = read.segments[number]
        if segment is None:
            return
        later = int(compat.cache_in(kwargs).get_seq_length()) - read.length  # the first layer has the new tokens
        kwargs["attention_mask"] = columns.mask(segment.real, later, hidden.shape[1], self._added(hidden))
        if segment.shift is not None:
            kwargs["position_ids"] = kwargs["position_ids"] - segment.shift[:, None].to(kwargs["position_ids"].device)
            kwargs["position_embeddings"] = self.language.rotary_emb(hidden, kwargs["position_ids"])

    def _added(self, hidden: Tensor) -> torch.dtype | None:
        """Return the dtype of masks that are added, None for masks of bools."""
        return hidden.dtype if self.language.config._attn_implementation == "eager" else None

    def _finish(self, batch: Reading) -> None:
        """Remember the cache, and record what each layer kept of each image."""
        rows = len(batch.prompts.ids)
        self.known[batch.cache] = Held(batch.prompts.ids.shape[1], rows, tuple(batch.segments))
        firsts = range(0, rows, rows // len(batch.order.plans))
        batch.order.inside = tuple(kept for row in firsts for kept in batch.record(row, self.depth))
        self.now.order = self.now.batch = None
