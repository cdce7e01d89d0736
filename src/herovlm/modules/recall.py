"""Lets a language model look up what was left out of its prompt: hooks on one instance, no class is touched.

While a prompt is read, and while its answer is written, some layers get their states from a `GatedCrossAttention`
before them, which looks into the memory of the prompt.  A memory goes by the cache that the prompt was read into, so it
stays for all later tokens; without a cache it goes by the tokens of the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import local
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from herovlm.errors import MethodError, UnsupportedError
from herovlm.modules.cross_attention import CrossAttention, Memory, Remembered, chosen, places
from herovlm.prompt import positions
from herovlm.seams import compat, hooks, refuse, scope
from herovlm.seams.shared import Shared
from herovlm.stage import Passage
from herovlm.types import KeptInside, Short


@dataclass(eq=False)
class Order:
    """A prompt that is to be read with a memory."""

    ids: Tensor  # (B, L), on the host
    memory: Memory
    known: dict[int, Remembered] = field(default_factory=dict)  # by layer; made when the first token asks
    read: bool = False
    inside: tuple[KeptInside, ...] = ()  # nothing is cut

    @property
    def tokens(self) -> list[int]:
        """How many tokens each prompt may look up."""
        return [int(count) for count in self.memory.real.sum(1)]


class Pass(local):
    """What the model is doing in this thread: a thread reads one thing at a time."""

    order: Order | None = None  # what is to be read next
    ids: Tensor | None = None  # what the model is given
    begun: bool = False  # whether the first layer has seen it
    current: Order | None = None  # whose tokens are on their way


class Recall(Shared):
    """A stage: reads prompts of one model instance with the memory of what was left out.

    Threads are told apart as in `herovlm.llm.inside.Cutter`: a prompt that is read once belongs to the thread that
    armed it, one that is read again and again to all that belong to the context in which the hooks were put in.
    """

    def __init__(self, model: PreTrainedModel, parts: CrossAttention, which: str = "dropped") -> None:
        super().__init__()
        self.model, self.parts, self.which = model, parts, which
        self.layers = refuse.layers(model)
        self.now = Pass()
        self.standing: Order | None = None  # a prompt that may be read several times
        self.held: WeakKeyDictionary[Any, Order] = WeakKeyDictionary()  # by the cache that it was read into

    @torch.no_grad()
    def prepare(self, short: Short, *, again: bool = False) -> Order | None:
        """Get ready for a prompt, which the model reads once, or `again` and again; None where nothing was left out.

        Raises:
            MethodError: features were not recorded.
        """
        order = self._order(short)
        if again:
            self.standing = order
        else:
            self.now.order = order
        return order

    def _order(self, short: Short) -> Order | None:
        """Collect what each prompt may look up: of its own pictures, in their order."""
        if not short.kept:
            return None
        prompt = positions.prompt_of(short.inputs, self.model.config)
        rows: list[list[tuple[Tensor, Tensor]]] = [[] for _ in prompt.ids]
        owners = positions.rows_of(prompt, [kept.positions for kept in short.kept])
        for row, seen, kept in zip(owners, short.seen, short.kept, strict=True):
            if seen.features is None:
                raise MethodError("what was dropped is looked up by its features, and none were recorded")
            there = chosen(seen, kept, self.which)
            rows[row].append((seen.features[there], places(seen.grid)[there]))
        none = short.seen[0].valid.new_zeros(0)
        width = self.parts.shape.hidden
        joined = [
            (torch.cat([s for s, _ in own]), torch.cat([at for _, at in own]))
            if own
            else (none.new_zeros(0, width, dtype=torch.float32), none.new_zeros(0, 3, dtype=torch.float32))
            for own in rows
        ]
        memory = Memory.of(joined)
        return Order(prompt.ids, memory) if memory.states.shape[1] else None

    def generate_kwargs(self, setting: Callable[[str], Any]) -> Mapping[str, Any]:
        """Return nothing: greedy, sampling and beams go on as they are.

        Raises:
            UnsupportedError: the prompt would not be read as a whole.
        """
        if setting("prefill_chunk_size") is not None:
            raise UnsupportedError("prefill_chunk_size: a memory goes by the whole prompt; leave it out")
        return {}

    def check_call(self, given: Mapping[str, Any]) -> None:
        """Allow everything: no column is missing behind a layer."""

    def finish(self, passage: Passage | None) -> None:
        """Check that a prompt was read with its memory.

        Raises:
            UnsupportedError: it did not reach the model as it was sent.
        """
        if isinstance(passage, Order) and not passage.read:
            raise UnsupportedError(
                "a prompt was read without its memory: somebody changed it between generate() and the model, or the "
                "model reads it in another way"
            )

    def forget(self) -> None:
        """Forget what this thread was to read."""
        self.now.order = self.now.ids = self.now.current = None

    def _hook(self) -> None:
        """Put the hooks in; each finds out by itself whom a call belongs to."""

        def into(module: Any, act: Callable[..., Any]) -> None:
            self.hooked.callback(hooks.before(module, act, hooks.everybody, keywords=True).remove)

        into(self.model, self._before_model)
        self.hooked.callback(hooks.after(self.model, self._after_model, hooks.everybody).remove)
        for number in sorted({0, *self.parts.shape.layers}):
            into(self.layers[number], self._before_layer(number))

    def _due(self) -> Order | None:
        """Find what is to be read with a memory if the model reads it now."""
        return self.now.order or (self.standing if scope.innermost(self) else None)

    def _before_model(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note which tokens the model is given."""
        self.now.ids, self.now.begun = kwargs.get("input_ids", args[0] if args else None), False
        self.now.current = None

    def _after_model(self, module: Any, args: Any, output: Any) -> None:
        """Check that the layers called our hooks.

        Raises:
            UnsupportedError: they did not.
        """
        missed = self._due() is not None and not self.now.begun
        self.now.current = self.now.ids = None
        if missed:
            self.now.order = None
            raise UnsupportedError(
                "the language model ran, but the hooks of its layers did not: torch.compile has compiled it already; "
                "use the uncompiled model"
            )

    def _before_layer(self, number: int) -> Callable[..., Any]:
        """Make the hook that runs before a layer."""

        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            hidden: Tensor = args[0] if args else kwargs["hidden_states"]
            if number == 0:
                self._start(hidden, kwargs)
            order = self.now.current
            if order is None or number not in self.parts.shape.layers:
                return None
            states = self._read(order, number, hidden)
            return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})

        return hook

    def _start(self, hidden: Tensor, kwargs: Mapping[str, Any]) -> None:
        """Find out whose tokens these are: of a prompt with a memory, of an answer behind one, or of neither.

        Raises:
            UnsupportedError: the rows of an answer are not those of its prompts.
        """
        now, due, cache = self.now, self._due(), compat.cache_in(kwargs)
        now.begun = True
        if cache is not None and not int(cache.get_seq_length()):
            self.held.pop(cache, None)  # used again, for another prompt
        now.current = None if cache is None else self.held.get(cache)
        if now.current is not None:
            if len(hidden) % len(now.current.ids):
                raise UnsupportedError(
                    f"{len(now.current.ids)} prompts were read with a memory, and {len(hidden)} rows go on from them"
                )
        elif due is not None and now.ids is not None and self._is(due, now.ids):
            now.current, due.read = due, True
            if cache is not None:
                self.held[cache] = due

    def _is(self, order: Order, ids: Tensor) -> bool:
        """Return whether these are the prompts of an order, each repeated for its beams, or such with more behind."""
        rows, length = order.ids.shape
        if len(ids) % rows or ids.shape[1] < length:
            return False
        return torch.equal(ids[:, :length].cpu(), order.ids.repeat_interleave(len(ids) // rows, 0))

    def _read(self, order: Order, number: int, hidden: Tensor) -> Tensor:
        """Let the states before a layer look up what they will."""
        part = self.parts.before(number)
        if (part.gate.device, part.gate.dtype) != (hidden.device, hidden.dtype):
            part.to(hidden.device, hidden.dtype)
        known = order.known.get(number)
        if known is None:
            made = part.remember(order.memory)
            known = order.known[number] = made._replace(real=made.real.to(hidden.device))
        states: Tensor = part(hidden, known)[0]
        return states
