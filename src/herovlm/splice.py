"""Give callers that own `generate` their prompt back: they cut it off by length, so it must be the one they gave.

`generate` and the forward call of one model *instance* shorten their inputs while a `Record` is in use, for whoever
belongs to its context (`families.scope`); classes are not touched.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial, update_wrapper
from threading import RLock, local
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from herovlm import registry
from herovlm.errors import UnsupportedError
from herovlm.mend import Splice, ends_of, setting, unwatched
from herovlm.prompt.positions import GATHERED
from herovlm.seams import compat, hooks, refuse, scope, seal
from herovlm.seams.call import Call, by_name
from herovlm.seams.scope import Scope
from herovlm.stage import Passage, Stage
from herovlm.strategy import Asking, Decoding
from herovlm.types import Encoded, KeptInside, Short

Choose = Callable[[Mapping[str, Any]], Any]  # the inputs of a call -> `herovlm.view.Choice`


@dataclass
class Record:
    """What `dropping` did in the last call with pictures: `.last` is its `Short`, `.inside` what came after it.

    `.inside` has one record an image, in prompt order, once the model has read a prompt; it is empty where no method
    goes on inside the language model.  Threads in one context share its record: open one in each to tell them apart.
    """

    choose: Choose | None = field(repr=False)
    original: bool = False  # positions of the untouched prompt
    stage: Stage | None = field(default=None, repr=False)  # goes on from there
    decoding: Decoding | None = field(default=None, repr=False)  # answers in its own way
    facts: tuple[Mapping[str, Any], ...] = ()  # what a decoding strategy says of each answer of the last call
    read: tuple[float, ...] = ()  # visual positions that the model read for each of its answers, over all passes
    did: tuple[Short | None, Passage | None] = field(default=(None, None), repr=False)  # both of the same call

    @property
    def last(self) -> Short | None:
        """The shorter prompt of the last call."""
        return self.did[0]

    @property
    def inside(self) -> tuple[KeptInside, ...]:
        """What the layers of the language model kept of each image of the last call."""
        passage = self.did[1]
        return () if passage is None else passage.inside

    def shorten(self, inputs: Mapping[str, Any]) -> Short:
        """Choose for the inputs of a call, and make the shorter ones."""
        if self.choose is None:
            raise RuntimeError("this record is of a prompt that was shortened before")
        short: Short = self.choose(inputs).rebuild()
        return short

    def arm(self, short: Short, *, again: bool = False) -> Passage | None:
        """Remember a shorter prompt, and get ready to go on with it inside the language model."""
        passage = None if self.stage is None else self.stage.prepare(short, again=again)
        self.did = (short, passage)
        return passage


@contextmanager
def installed(model: PreTrainedModel, record: Record) -> Iterator[Record]:
    """Shorten what `model.generate` and `model(...)` are given by whoever belongs to the body; then undo it.

    Contexts nest: the innermost counts.  They may overlap in any order, in any threads; the instance is as it was when
    the last one has ended, and so have the calls that began inside.
    """
    with (
        _standing_in(model) as generate,
        nullcontext() if record.stage is None else record.stage.installed(),
        scope.opened(model, record),
    ):
        try:
            yield record
        finally:
            generate.now.end()


@contextmanager
def _standing_in(model: PreTrainedModel) -> Iterator[Generate]:
    """Let a `Generate` stand in for the instance's own while the body runs; bodies may overlap."""
    with _placing:
        current = vars(model).get("generate")
        generate = current if isinstance(current, Generate) and current.model is model else Generate(model)
        generate.users += 1
        if generate is not current:
            vars(model)["generate"] = generate
            generate.hook()
    try:
        yield generate
    finally:
        with _placing:
            generate.users -= 1
            if not generate.users:
                generate.hooked.close()
                if vars(model).get("generate") is generate:
                    del vars(model)["generate"]
                    if generate.covered is not None:
                        vars(model)["generate"] = generate.covered


_placing = RLock()  # a context that is collected as garbage may end in here


class Direct(NamedTuple):
    """A direct call on its way."""

    context: Scope
    given: Mapping[str, Any]
    short: Short
    passage: Passage | None
    stay: ExitStack  # what it needs, should the context end meanwhile


class Now(local):
    """What this thread does with a model."""

    known: int = 0  # running calls of generate() whose pictures were looked at
    direct: Direct | None = None  # a call of the model itself that is shortened

    def end(self) -> None:
        """A direct call is over, or never came back."""
        direct, self.direct = self.direct, None
        if direct is not None:
            direct.stay.close()


class Generate:
    """Stands in for `model.generate` on one instance; whoever has no context open is passed on.

    A copy of the model has the function that was there before.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.covered = vars(model).get("generate")  # what somebody else has put there
        if isinstance(self.covered, Generate):  # a shallow copy of a model brought it along
            self.covered = None
        self.inner = type(model).generate.__get__(model) if self.covered is None else self.covered
        self.media = registry.family(model).media
        self.users, self.hooked, self.now = 0, ExitStack(), Now()
        update_wrapper(self, self.inner)

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (self.inner,)

    def hook(self) -> None:
        """Hook into direct calls."""
        before = hooks.before(self.model, self.before_forward, hooks.everybody, keywords=True)
        self.hooked.callback(before.remove)
        self.hooked.callback(hooks.after(self.model, self.after_forward, hooks.everybody, always=True).remove)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Generate from a shorter prompt and return sequences that begin with the original one."""
        context = scope.innermost(self.model)
        if context is None:
            return self.inner(*args, **kwargs)
        call = Call(self.inner, type(self.model).generate.__get__(self.model), args, kwargs)
        pictures = self._has_pictures(call.given)
        known = pictures or call.given.get("mm_encoder_outputs") is not None
        self.now.known += known
        try:
            if pictures and context.holds.decoding is not None:
                return self._decoded(context.holds, context.holds.decoding, call)
            return self._shortened(context, call) if pictures else self.inner(*args, **kwargs)
        finally:
            self.now.known -= known

    def _shortened(self, context: Scope, call: Call) -> Any:
        record: Record = context.holds
        given = call.given
        seal.lift_empty(compat.caches_in(given))
        _refuse(self.model, given, record)
        added = {} if record.stage is None else record.stage.generate_kwargs(partial(setting, self.model, given))
        names = {*inspect.signature(type(self.model).forward).parameters, *GATHERED, *compat.CACHES} - {"use_cache"}
        # The hooks of a method inside the language model stay for this call, should the context end meanwhile.
        with nullcontext() if record.stage is None else record.stage.installed():
            made = record.shorten({name: value for name, value in given.items() if name in names})
            refuse.repeated(made.inputs.get("mm_encoder_outputs"), _times(self.model, given))
            passage, short = record.arm(made), dict(made)
            short.pop("use_cache", None)  # _refuse has looked at it
            splice = Splice(given["input_ids"], short["input_ids"].shape[1])
            rest = {name: value for name, value in given.items() if name not in names} | dict(added)
            result: Any = None
            try:
                result = call.again({**short, **splice.options(self.model, rest)})
            finally:
                _seal(context, made, passage, given, result)
                if record.stage is not None:
                    record.stage.forget()
        if record.stage is not None:
            record.stage.finish(passage)
        return splice.result(result)

    def _decoded(self, record: Record, decoding: Decoding, call: Call) -> Any:
        """Let a strategy answer; what it writes comes back behind the prompt that was given."""
        given = call.given
        refuse.decoding(partial(setting, self.model, given), given, str(decoding))
        _refuse(self.model, given, record)
        names = {*inspect.signature(type(self.model).forward).parameters, *GATHERED} - {"use_cache"}
        rest = {name: value for name, value in given.items() if name not in {*names, *compat.CACHES}}
        choice = record.choose({name: value for name, value in given.items() if name in names})  # type: ignore[misc]

        def run(
            short: Short, *, processors: Sequence[Any] = (), streams: int = 1, new_tokens: int | None = None
        ) -> Tensor:
            splice, own = Splice(given["input_ids"], short["input_ids"].shape[1]), dict(rest)
            if new_tokens is not None:
                own = unwatched(self.model, rest, new_tokens)
            options = splice.options(self.model, own, streams)
            options["logits_processor"] = [*processors, *(options.get("logits_processor") or ())]
            inputs = {name: value for name, value in short.items() if name != "use_cache"}
            out: Tensor = call.again({**inputs, **options})
            return out[:, splice.short :]

        rows, ends = range(len(given["input_ids"])), ends_of(self.model, given)
        answered = decoding.answer(Asking([(choice, row) for row in rows], run, ends))
        record.did, record.facts, record.read = (answered.short, None), answered.facts, answered.positions
        return torch.cat((given["input_ids"], answered.new.to(given["input_ids"].device)), 1)

    def before_forward(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Shorten the inputs of a direct `model(...)`; inside generate() there are no pixels left to see."""
        self.now.end()
        context = scope.innermost(self.model)
        if context is None or not (args or {*self.media, "mm_encoder_outputs"} & {*kwargs}):
            return None
        signature = inspect.signature(type(module).forward)
        given = by_name(signature, "forward", (module, *args), kwargs)
        del given["self"]
        encoded = given.get("mm_encoder_outputs")
        if not self._pictured(given):
            if encoded and not isinstance(encoded, Encoded) and not self.now.known:
                raise UnsupportedError(
                    "pictures reached the model inside herovlm.dropping() without passing model.generate(), so they "
                    "were not shortened; call the generate() of this instance, not that of its class"
                )
            return None
        if module is not self.model:
            raise UnsupportedError(
                "this is a copy of the model that herovlm.dropping() was given (torch.nn.DataParallel makes such): "
                "call the model itself, or open a context on the copy"
            )
        record: Record = context.holds
        if record.decoding is not None:
            raise UnsupportedError(f"{record.decoding} writes answers; call model.generate(), not the model itself")
        seal.lift_empty(compat.caches_in(given))
        if record.stage is not None:
            record.stage.check_call(given)
        with ExitStack() as stay:
            stay.enter_context(_standing_in(self.model))
            if record.stage is not None:
                stay.enter_context(record.stage.installed())
            short = record.shorten(given)
            self.now.direct = Direct(context, given, short, record.arm(short), stay.pop_all())
        return (), dict(short)

    def after_forward(self, module: Any, args: Any, output: Any) -> None:
        """Seal the cache of a direct call that was shortened."""
        direct = self.now.direct
        if direct is not None:
            _seal(direct.context, direct.short, direct.passage, direct.given, output)
            self.now.end()

    def _pictured(self, given: Mapping[str, Any]) -> bool:
        return any(given.get(name) is not None for name in self.media)

    def _has_pictures(self, given: Mapping[str, Any]) -> bool:
        """Return whether there is something to drop; refuse to go on from the cache of a shortened prompt."""
        if self._pictured(given):
            return True
        ids = given.get("input_ids")
        turn = isinstance(ids, Tensor) and bool((ids == self.model.config.image_token_id).any())
        if turn and refuse.cached(given) and given.get("mm_encoder_outputs") is None:
            raise UnsupportedError(
                "the cache (past_key_values) holds a shortened prompt, input_ids the full one: generate() would cut "
                "it at the wrong place; start each turn with the whole conversation, its images, and no cache"
            )
        return False


def _seal(context: Scope, short: Short, passage: Passage | None, given: Mapping[str, Any], result: Any) -> None:
    """Seal the caches that were given or made, now that they hold a prompt from which something is missing."""
    if passage is None and short.whole:
        return
    made = tuple(compat.caches_in(result)) if isinstance(result, Mapping) else result
    for cache in (*compat.caches_in(given), *(made if isinstance(made, tuple) else ())):
        seal.seal(cache, context)


def _same(function: Any) -> Any:
    return function


def _times(model: PreTrainedModel, given: Mapping[str, Any]) -> int:
    """Count how often generate() repeats each prompt."""
    return max(setting(model, given, name) or 1 for name in ("num_beams", "num_return_sequences"))


def _refuse(model: PreTrainedModel, given: Mapping[str, Any], record: Record) -> None:
    """Refuse options of generate() that go silently wrong with a shortened prompt."""
    if record.original and setting(model, given, "use_cache") is False:
        raise UnsupportedError(
            "positions='original' with use_cache=False: without a cache transformers takes gaps in the positions for "
            "packed sequences and masks them apart; use positions='compact' or use_cache=True"
        )
    if record.original and "compact" in registry.family(model).positions:  # else the family knows that it is right
        new = setting(model, given, "max_new_tokens") or 0
        length = given["input_ids"].shape[1] + new
        refuse.original_positions(model, length if new else max(length, setting(model, given, "max_length") or 0))
    if setting(model, given, "token_healing"):
        raise UnsupportedError("token_healing rewrites the end of the prompt, which is put back; turn it off")
    chunks = setting(model, given, "prefill_chunk_size")
    if chunks is not None and not compat.chunks_keep_images_apart():
        raise UnsupportedError(
            f"prefill_chunk_size={chunks} mixes up image features in this version of transformers; "
            "update transformers, or set prefill_chunk_size=None"
        )
