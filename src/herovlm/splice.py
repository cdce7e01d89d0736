"""Give callers that own `generate` their prompt back: they cut it off by length, so it must be the one they gave.

`generate` and the forward call of one model *instance* shorten their inputs while a `Record` is in use; classes are
not touched.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial, update_wrapper
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from herovlm.adapters import compat, refuse
from herovlm.adapters.inside import Cutter
from herovlm.adapters.positions import GATHERED
from herovlm.errors import InputsError, UnsupportedError
from herovlm.types import KeptInside, Short

Shorten = Callable[[Mapping[str, Any]], Short]


@dataclass
class Record:
    """What `dropping` did: `.last` is the `Short` of the last call, None before the first; `.inside` what came after.

    `.inside` has one record an image, in prompt order, once the model has read a prompt; it is empty where no method
    goes on inside the language model.
    """

    shorten: Shorten = field(repr=False)
    original: bool = False  # positions of the untouched prompt
    last: Short | None = None
    cutter: Cutter | None = field(default=None, repr=False)  # goes on inside the language model

    @property
    def inside(self) -> tuple[KeptInside, ...]:
        """What the layers of the language model kept of each image of the last call."""
        return () if self.cutter is None else self.cutter.inside

    def apply(self, inputs: Mapping[str, Any]) -> Short:
        """Shorten inputs and remember the result."""
        self.last = self.shorten(inputs)
        if self.cutter is not None:
            self.cutter.arm(self.last)
        return self.last

    def check(self) -> None:
        """Check that a prompt with pictures was cut inside the language model, if it should.

        Raises:
            UnsupportedError: it did not reach the model as it was sent.
        """
        if self.cutter is not None and self.last is not None and self.last.kept and not self.inside:
            raise UnsupportedError(
                "nothing was pruned inside the language model: somebody changed the prompt between generate() and the "
                "model, or reads it in another way; use a method before the language model"
            )


@contextmanager
def installed(model: PreTrainedModel, record: Record) -> Iterator[Record]:
    """Shorten what `model.generate` and `model(...)` are given; on exit the instance is as it was.

    Contexts on one model nest: the innermost counts.
    """
    current = vars(model).get("generate")
    generate = current if isinstance(current, Generate) else Generate(model)
    hook = None
    if generate is not current:
        vars(model)["generate"] = generate
        hook = model.register_forward_pre_hook(generate.before_forward, with_kwargs=True)
    generate.records.append(record)
    try:
        with nullcontext() if record.cutter is None else record.cutter.installed():
            yield record
    finally:
        generate.records.remove(record)
        if hook is not None:
            hook.remove()
            if vars(model).get("generate") is generate:
                del vars(model)["generate"]
                if current is not None:
                    vars(model)["generate"] = current


class Generate:
    """Stands in for `model.generate` on one instance; without a record it only passes on."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.inner = model.generate
        self.records: list[Record] = []
        update_wrapper(self, self.inner)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Generate from a shorter prompt and return sequences that begin with the original one."""
        given = _by_name(self.inner, args, kwargs)
        if given.get("inputs") is not None and "input_ids" not in given:
            given["input_ids"] = given.pop("inputs")
        if not self.records or not self._has_pictures(given):
            return self.inner(*args, **kwargs)
        record = self.records[-1]
        _refuse(self.model, given, record)
        names = {*inspect.signature(type(self.model).forward).parameters, *GATHERED, *compat.CACHES} - {"use_cache"}
        short = dict(record.apply({name: value for name, value in given.items() if name in names}))
        short.pop("use_cache", None)  # _refuse has looked at it
        splice = Splice(given["input_ids"], short["input_ids"].shape[1])
        rest = {name: value for name, value in given.items() if name not in names}
        result = self.inner(**short, **splice.options(self.model, rest))
        record.check()
        return splice.result(result)

    def before_forward(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Shorten the inputs of a direct `model(...)`; inside generate() there are no pixels left to see."""
        if not self.records or not (args or "pixel_values" in kwargs):
            return None
        given = _by_name(type(module).forward, (module, *args), kwargs)
        del given["self"]
        if given.get("pixel_values") is None:
            return None
        if self.records[-1].cutter is not None:
            refuse.call(given)
        return (), dict(self.records[-1].apply(given))

    def _has_pictures(self, given: Mapping[str, Any]) -> bool:
        """Say whether there is something to drop; refuse to go on from the cache of a shortened prompt."""
        if given.get("pixel_values") is not None:
            return True
        ids = given.get("input_ids")
        turn = isinstance(ids, Tensor) and bool((ids == self.model.config.image_token_id).any())
        if turn and refuse.cached(given) and given.get("mm_encoder_outputs") is None:
            raise UnsupportedError(
                "the cache (past_key_values) holds a shortened prompt, input_ids the full one: generate() would cut "
                "it at the wrong place; start each turn with the whole conversation, its images, and no cache"
            )
        return False


@dataclass(frozen=True)
class Splice:
    """Puts the original prompt in front of whatever the caller sees."""

    prompt: Tensor  # (B, L)
    short: int  # length of the short prompt

    def full(self, ids: Tensor) -> Tensor:
        """Replace the short prompt of (B * returns, short + new) by the original one."""
        prompt = self.prompt.repeat_interleave(len(ids) // len(self.prompt), 0).to(ids.device)
        return torch.cat((prompt, ids[:, self.short :]), 1)

    def result(self, result: Any) -> Any:
        """Mend what generate() returns: token ids, or an output with `.sequences`."""
        if isinstance(result, Tensor):
            return self.full(result)
        if isinstance(getattr(result, "sequences", None), Tensor):
            result.sequences = self.full(result.sequences)
        return result

    def options(self, model: PreTrainedModel, rest: Mapping[str, Any]) -> dict[str, Any]:
        """Mend the options of generate() that look at the prompt or count it."""
        mended = _lengths(model, dict(rest), self.prompt.shape[1] - self.short)
        if mended.get("streamer") is not None:
            mended["streamer"] = _Streamer(mended["streamer"], self)
        for name in ("logits_processor", "stopping_criteria"):
            if mended.get(name):
                mended[name] = type(mended[name])(_Criterion(one, self) for one in mended[name])
        if _setting(model, rest, "prompt_lookup_num_tokens"):
            mended["logits_processor"] = [
                *(mended.get("logits_processor") or ()),
                _NoDraft(model.config.image_token_id),
            ]
        allowed = mended.get("prefix_allowed_tokens_fn")
        if allowed is not None:
            mended["prefix_allowed_tokens_fn"] = lambda row, ids: allowed(row, self._row(row, ids))
        return mended

    def _row(self, row: int, ids: Tensor) -> Tensor:
        """Put the original prompt in front of one sequence."""
        return torch.cat((self.prompt[row].to(ids.device), ids[self.short :]))


class _Criterion:
    """A logits processor or stopping criterion of the caller, which expects the prompt it knows."""

    def __init__(self, inner: Any, splice: Splice) -> None:
        self.inner, self.splice = inner, splice

    def __call__(self, input_ids: Tensor, scores: Any) -> Any:
        return self.inner(self.splice.full(input_ids), scores)


class _NoDraft:
    """Keeps prompt lookup from drafting image placeholders, for which there are no features: it asks us by scores that
    are all alike.  A placeholder that the model itself scores highest is written as ever."""

    def __init__(self, placeholder: int) -> None:
        self.placeholder = placeholder

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        own = scores[:, self.placeholder]
        alone = (scores >= own[:, None]).sum(-1) == 1
        barred = scores.clone()
        barred[:, self.placeholder] = own.where(alone, -torch.inf)
        return barred


class _Streamer:
    """A streamer of the caller: the first thing that it is shown is the original prompt."""

    def __init__(self, inner: Any, splice: Splice) -> None:
        self.inner, self.splice, self.first = inner, splice, True

    def put(self, value: Tensor) -> None:
        """Pass on; the prompt comes first, once."""
        self.inner.put(self.splice.full(value).cpu() if self.first else value)
        self.first = False

    def end(self) -> None:
        """Pass on."""
        self.inner.end()


def _by_name(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Bind a call to the names of its parameters, **kwargs opened."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise InputsError(f"{error}; under herovlm.dropping() arguments are as for {function.__name__}()") from error
    given: dict[str, Any] = dict(bound.arguments)
    given.update(given.pop("kwargs", {}))
    return given


def _setting(model: PreTrainedModel, given: Mapping[str, Any], name: str) -> Any:
    """Look an option up where generate() does: keyword, given config, the model's config."""
    places = (given.get(name), getattr(given.get("generation_config"), name, None))
    return next((value for value in places if value is not None), getattr(model.generation_config, name, None))


def _lengths(model: PreTrainedModel, rest: dict[str, Any], removed: int) -> dict[str, Any]:
    """Lower max_length and min_length, which count the prompt, by what was removed from it."""
    config = rest.get("generation_config")
    if config is not None:
        config = rest["generation_config"] = copy.deepcopy(config)
    for name, newer in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
        value = _setting(model, rest, name)
        if value is None or (rest.get(name) is None and _setting(model, rest, newer) is not None):
            continue
        if config is None or rest.get(name) is not None:
            rest[name] = max(value - removed, 0)
        else:
            setattr(config, name, max(value - removed, 0))
    return rest


def _refuse(model: PreTrainedModel, given: Mapping[str, Any], record: Record) -> None:
    """Refuse options of generate() that go silently wrong with a shortened prompt."""
    if record.cutter is not None:
        refuse.generation(partial(_setting, model, given))
    if record.original and _setting(model, given, "use_cache") is False:
        raise UnsupportedError(
            "positions='original' with use_cache=False: without a cache transformers takes gaps in the positions for "
            "packed sequences and masks them apart; use positions='compact' or use_cache=True"
        )
    if _setting(model, given, "token_healing"):
        raise UnsupportedError("token_healing rewrites the end of the prompt, which is put back; turn it off")
    chunks = _setting(model, given, "prefill_chunk_size")
    if chunks is not None and not compat.chunks_keep_images_apart():
        raise UnsupportedError(
            f"prefill_chunk_size={chunks} mixes up image features in this version of transformers; "
            "update transformers, or set prefill_chunk_size=None"
        )
