"""One measured answer, stage by stage: seeing, choosing, reading the prompt, and each token after the first."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from herovlm import api, registry
from herovlm.clock import Clock
from herovlm.cost.clock import Way, timed
from herovlm.cost.memory import peak
from herovlm.cost.shapes import of_length
from herovlm.errors import UnsupportedError
from herovlm.strategy import Decoding
from herovlm.view import see

GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "use_cache": True}


def answering(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    request: api.Request,
    new_tokens: Sequence[int] = (1,),
    **how: Any,
) -> Way:
    """Prepare an answer with a share of the visual positions; `how` are more options of `model.generate`.

    A run measures, in seconds: "vision" (tower, projector, and the signals that the method needs), "selection"
    (choosing and rebuilding the prompt), "prefill" (until the LLM has the logits of the first token), "first_token"
    (the sum of these), "decode" (each further token, median), and "answer N" (all of an answer of N tokens, for each N
    of `new_tokens`); and "peak" memory in bytes.  Decoding is `model.generate`, greedy, never ending early.  With all
    positions it is the untouched model that is measured: it has no "selection".
    """
    if isinstance(request.strategy, Decoding):
        raise UnsupportedError(f"{request.strategy} asks the model in its own way; its stages are not timed here")
    clock, stage = Clock(model.device), api.stage_of(model, request)
    if request.all and stage is None:
        return _untouched(model, inputs, new_tokens, how)

    @torch.no_grad()
    def run() -> dict[str, float]:
        with peak(model.device) as memory:
            marks = [clock.start()]
            view = see(model, inputs, request)
            marks.append(clock.mark())
            short = view.choose(request).rebuild()
            marks.append(clock.mark())
            if stage is not None:
                stage.prepare(short, again=True)
            with nullcontext() if stage is None else stage.installed():
                marks += _generate(model, short, clock, max(new_tokens), how)
            seconds = clock.seconds(marks)
        return {**_stages(seconds, new_tokens), "peak": memory.bytes}

    return run


def selecting(model: PreTrainedModel, inputs: Mapping[str, Any], request: api.Request) -> Way:
    """Look once, and prepare choosing and rebuilding the prompt alone; measured as `timed` does."""
    with torch.no_grad():
        view = see(model, inputs, request)
    return timed(torch.no_grad()(lambda: view.choose(request).rebuild()), model.device)


def ideal(model: PreTrainedModel, inputs: Mapping[str, Any], positions: int, new_tokens: Sequence[int] = (1,)) -> Way:
    """Prepare what no method can beat that looks first: the same model, given so many positions chosen by nobody.

    The tower, the projector and the packing of the unmodified model run over the whole image, with nothing recorded;
    the LLM then reads a prompt of so many visual positions that was made beforehand, with random features.  What a
    method adds to this is recording, choosing, and rebuilding the prompt.  Measured as in `answering`.
    """
    clock = Clock(model.device)
    config: Any = model.config
    prompt = of_length(inputs, config.image_token_id, positions)
    width = config.get_text_config().hidden_size
    features = [torch.randn(positions, width).to(model.device, model.dtype) for _ in prompt["input_ids"]]
    vision = {name: inputs[name] for name in registry.family(model).vision if name in inputs}
    look: Any = model.base_model

    @torch.no_grad()
    def run() -> dict[str, float]:
        with peak(model.device) as memory:
            marks = [clock.start()]
            look.get_image_features(**vision, return_dict=True)
            marks += [clock.mark(), clock.mark()]
            ready = {"image": BaseModelOutputWithPooling(pooler_output=list(features))}
            marks += _generate(model, {**prompt, "mm_encoder_outputs": ready}, clock, max(new_tokens), {})
            seconds = clock.seconds(marks)
        return {**_stages(seconds, new_tokens), "peak": memory.bytes}

    return run


def _untouched(
    model: PreTrainedModel, inputs: Mapping[str, Any], new_tokens: Sequence[int], how: Mapping[str, Any]
) -> Way:
    """Prepare an answer as `model.generate` gives it; its vision ends where the projector has run."""
    clock, projector = Clock(model.device), registry.family(model).projector(model)

    @torch.no_grad()
    def run() -> dict[str, float]:
        with peak(model.device) as memory:
            marks = [clock.start()]
            handle = projector.register_forward_hook(lambda *_: marks.extend((clock.mark(), clock.mark())))
            try:
                marks += _generate(model, inputs, clock, max(new_tokens), how)
            finally:
                handle.remove()
            seconds = clock.seconds(marks)
        return {**_stages(seconds, new_tokens), "peak": memory.bytes}

    return run


def _generate(model: Any, given: Mapping[str, Any], clock: Clock, tokens: int, how: Mapping[str, Any]) -> list[Any]:
    """Mark the time at which the logits of each new token are there."""
    marks: list[Any] = []

    def tick(_ids: Tensor, scores: Tensor) -> Tensor:
        marks.append(clock.mark())
        return scores

    length = {"max_new_tokens": tokens, "min_new_tokens": tokens, "pad_token_id": 0}
    model.generate(**{**length, **GREEDY, **how, **given}, logits_processor=LogitsProcessorList([tick]))
    return marks


def _stages(seconds: Sequence[float], new_tokens: Sequence[int]) -> dict[str, float]:
    vision, selection, prefill, *more = seconds
    first = vision + selection + prefill
    found = {"vision": vision, "selection": selection, "prefill": prefill, "first_token": first}
    if more:
        found["decode"] = statistics.median(more)
    return found | {f"answer {n}": first + sum(more[: n - 1]) for n in new_tokens}
