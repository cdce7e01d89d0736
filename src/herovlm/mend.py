"""What a caller gives generate() and gets back, mended so that the prompt is the one that it knows."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

LENGTHS = ("max_length", "min_length")
WATCHING = ("streamer", "logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn")  # who looks at an answer
COUNTING = (  # what counts the tokens of an answer, or the time that it takes
    *("min_length", "min_new_tokens", "forced_bos_token_id", "forced_eos_token_id", "begin_suppress_tokens"),
    *("exponential_decay_length_penalty", "stop_strings", "max_time"),
)


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

    def options(self, model: PreTrainedModel, rest: Mapping[str, Any], streams: int = 1) -> dict[str, Any]:
        """Mend the options of generate() that look at the prompt or count it; who looks sees one row a prompt."""
        mended = _lengths(model, dict(rest), self.prompt.shape[1] - self.short)
        if mended.get("streamer") is not None:
            mended["streamer"] = _Streamer(mended["streamer"], self, streams)
        for name in ("logits_processor", "stopping_criteria"):
            if mended.get(name):
                mended[name] = type(mended[name])(_Criterion(one, self, streams) for one in mended[name])
        if setting(model, rest, "prompt_lookup_num_tokens"):
            mended["logits_processor"] = [
                *(mended.get("logits_processor") or ()),
                _NoDraft(model.config.image_token_id),
            ]
        allowed = mended.get("prefix_allowed_tokens_fn")
        if allowed is not None:
            mended["prefix_allowed_tokens_fn"] = lambda row, ids: allowed(
                row // streams, self._row(row // streams, ids)
            )
        return mended

    def _row(self, row: int, ids: Tensor) -> Tensor:
        """Put the original prompt in front of one sequence."""
        return torch.cat((self.prompt[row].to(ids.device), ids[self.short :]))


class _Criterion:
    """A logits processor or stopping criterion of the caller, which expects the prompt it knows."""

    def __init__(self, inner: Any, splice: Splice, streams: int = 1) -> None:
        self.inner, self.splice, self.streams = inner, splice, streams

    def __call__(self, input_ids: Tensor, scores: Any) -> Any:
        ids = self.splice.full(input_ids)
        if self.streams == 1:
            return self.inner(ids, scores)
        found = self.inner(ids[:: self.streams], scores[:: self.streams] if isinstance(scores, Tensor) else scores)
        return found.repeat_interleave(self.streams, 0) if isinstance(found, Tensor) and found.ndim else found


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

    def __init__(self, inner: Any, splice: Splice, streams: int = 1) -> None:
        self.inner, self.splice, self.streams, self.first = inner, splice, streams, True

    def put(self, value: Tensor) -> None:
        """Pass on; the prompt comes first, once."""
        self.inner.put((self.splice.full(value).cpu() if self.first else value)[:: self.streams])
        self.first = False

    def end(self) -> None:
        """Pass on."""
        self.inner.end()


def unwatched(model: PreTrainedModel, rest: Mapping[str, Any], new_tokens: int) -> dict[str, Any]:
    """Make the options of a pass that is not the answer: nobody watches it, and nothing counts its tokens but this."""
    own = {name: value for name, value in rest.items() if name not in {*WATCHING, *LENGTHS, *COUNTING}}
    off = {name: None for name in COUNTING if setting(model, rest, name) is not None}
    return {**own, **off, "max_new_tokens": new_tokens}


def setting(model: PreTrainedModel, given: Mapping[str, Any], name: str) -> Any:
    """Look an option up where generate() does: keyword, given config, the model's config."""
    places = (given.get(name), getattr(given.get("generation_config"), name, None))
    return next((value for value in places if value is not None), getattr(model.generation_config, name, None))


def ends_of(model: PreTrainedModel, given: Mapping[str, Any]) -> frozenset[int]:
    """Return the tokens that end an answer, as a call has them."""
    ends = setting(model, given, "eos_token_id")
    ends = ends.tolist() if isinstance(ends, Tensor) else ends
    return frozenset(ends if isinstance(ends, list | tuple) else () if ends is None else (ends,))


def _lengths(model: PreTrainedModel, rest: dict[str, Any], removed: int) -> dict[str, Any]:
    """Lower max_length and min_length, which count the prompt, by what was removed from it."""
    config = rest.get("generation_config")
    if config is not None:
        config = rest["generation_config"] = copy.deepcopy(config)
    for name, newer in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
        value = setting(model, rest, name)
        if value is None or (rest.get(name) is None and setting(model, rest, newer) is not None):
            continue
        if config is None or rest.get(name) is not None:
            rest[name] = max(value - removed, 0)
        else:
            setattr(config, name, max(value - removed, 0))
    return rest
