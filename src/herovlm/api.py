"""drop(), dropping() and decoding(): method x model -> shorter inputs, and answers from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from herovlm import registry, splice
from herovlm.budget import Auto
from herovlm.errors import MethodError
from herovlm.llm.inside import Cutter
from herovlm.mend import ends_of, unwatched
from herovlm.methods.base import Method
from herovlm.methods.inside.base import Chain
from herovlm.request import AnyKeep, AnyMethod, AnyNarrow, AnyTokens, Positions, Request
from herovlm.seams import refuse
from herovlm.spec import parse
from herovlm.stage import Stage
from herovlm.strategy import Answered, Asking, Decoding, Strategy
from herovlm.types import Newlines, Short
from herovlm.view import Choice, check, see, together

__all__ = ["AnyKeep", "AnyMethod", "AnyNarrow", "AnyTokens", "Positions", "Request", "check", "see"]  # handed on

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def drop(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    *,
    method: AnyMethod = "hero",
    keep: AnyKeep | None = None,
    tokens: AnyTokens | None = None,
    question: str | Sequence[str] | None = None,
    processor: Any = None,
    positions: Positions | None = None,
    newlines: Newlines | None = None,
    narrow: AnyNarrow | None = None,
) -> Short:
    """Shorten model inputs: the vision tower runs once, a method chooses, and the rest never reaches the LLM.

    `model.generate(**short)` and `model(**short)` take the result.  Features carry no gradient.

    Args:
        model: of a supported family (`herovlm models`), transformers >= 5.18, any language model behind it.
        inputs: what the model's processor returned (a batch of mixed sizes and several images a prompt are fine).
        method: a method object, or its spec: "hero", "hero(alpha=0.3)"; "hero + fastv" needs `dropping`.
        keep: share in (0, 1] of the visual positions that the untouched model sends for an image, newlines counted, or
            a list with one an image in prompt order; 0.2 by default, 1.0 is the untouched model.  "auto(loss=0.05)": by
            what is in the picture, for a loss that `herovlm calibrate` measured on this model.
        tokens: instead: whole number of positions an image (who has fewer keeps all), or a list with one an image.
        question: the user's words, one for all or one a prompt; None reads them from input_ids.
        processor: a processor or tokenizer to read the question with; None takes the one beside the model's weights.
        positions: "compact" numbers the short prompt 0, 1, ...; "original" keeps the untouched prompt's; None: as fits.
        newlines: which newlines to keep; None is the method's own rule.
        narrow: share of each tile's patches that goes on behind a middle block of the vision tower, or (block, share),
            the block a number or a relative depth: faster, and results change (see `herovlm.towers.narrow`).  The
            method chooses among the patches that went through; `keep` means what it always does, and 1.0 ignores it.

    Returns:
        The shorter inputs, with `.kept` and `.seen`: one record an image, in prompt order.

    Raises:
        BudgetError: keep or tokens is out of range, too small, or a list of another length.
        MethodError, ModelError: unknown method, unsupported model.
        InputsError: inputs that do not fit, or no question.
        UnsupportedError: a combination that would go silently wrong.
        TextTowerError: the method scores the question and there is no CLIP text tower.
    """
    request = Request.of(method, keep, tokens, question, processor, positions, newlines, narrow)
    request.ends_here("drop()")
    return shorten(model, inputs, request)


@contextmanager
def dropping(
    model: PreTrainedModel,
    *,
    method: AnyMethod = "hero",
    keep: AnyKeep | None = None,
    tokens: AnyTokens | None = None,
    question: str | Sequence[str] | None = None,
    processor: Any = None,
    positions: Positions | None = None,
    newlines: Newlines | None = None,
    narrow: AnyNarrow | None = None,
    pictures: Sequence[Any] | None = None,
) -> Iterator[splice.Record]:
    """Shorten whatever this model instance is given, for callers that own `generate`: pipelines, harnesses.

    Sequences come back with the original prompt in front, so that cutting it off by length still works; `max_length`,
    `min_length`, streamers, logits processors and stopping criteria see the original prompt too.  A direct `model(...)`
    returns logits of the short prompt.  On exit, also after an error, the instance is as it was.

    Args: as for `drop`; `method` may go on inside the language model.  In a chain, "hero + fastv(keep=0.5)", `keep` is
    what the first method sends to the language model, and the second goes on from there by its own fields.  Alone,
    "fastv", everything is sent, and `keep` is the mean over the layers: the method's own number is found from it (one
    that has a number, "fastv(keep=0.5)", goes by that).  "full + fastv" sends everything, whatever `keep` is.
    `pictures`, PIL images as they came, in prompt order, are for strategies that look at a part of one again.

    Yields:
        A record whose `.last` is the `Short` of the last call with pictures; `.inside` tells what the layers kept.

    Raises:
        HeroError: as `drop`; arguments and model are checked on entry, inputs on each call.
    """
    request = Request.of(method, keep, tokens, question, processor, positions, newlines, narrow, pictures)
    check(model, request)
    request = request.on(model)
    record = splice.Record(
        lambda inputs: see(model, inputs, request).choose(request),
        original=request.positions == "original",
        stage=stage_of(model, request),
        decoding=request.strategy if isinstance(request.strategy, Decoding) else None,
    )
    with splice.installed(model, record):
        yield record


@contextmanager
def decoding(
    model: PreTrainedModel,
    strategy: str | Strategy,
    *,
    method: str | Method | None = None,
    **asked: Any,
) -> Iterator[splice.Record]:
    """Answer by a strategy: contrast over views of a picture, a closer look at a part of it, a trained part.

    The same as `dropping(model, method="method + strategy")`; its answers are greedy, and come back behind the prompt
    that `generate` was given.

    Args:
        model: as for `drop`.
        strategy: an object of one, or its spec: "contrast", "contrast(keep=0.1)" (`herovlm methods` lists them).
        method: what chooses before the language model; None is the strategy's own.
        asked: keep, tokens, question, processor, positions, newlines: as for `drop`.

    Yields:
        A record whose `.last` is the `Short` that the answer was written from, where there is one.  Of a strategy that
        asks the model in its own way `.read` counts the visual positions that were read for each prompt, over all
        passes, and `.facts` tells what else there is.

    Raises:
        HeroError: as `dropping`; a strategy that cannot be with this model or method says why.
    """
    chain = parse(strategy)
    if not isinstance(chain, Chain) or not isinstance(chain.then, Strategy) or (method and "+" in str(strategy)):
        raise MethodError(
            f"strategy={str(strategy)!r} is not the spec of one strategy; what chooses before it is method=; there are "
            f"{', '.join(registry.strategies())}"
        )
    before = chain.before if method is None else parse(method)
    if isinstance(before, Chain):
        raise MethodError(f"method={str(method)!r} goes on by itself; give one that chooses before the language model")
    with dropping(model, method=Chain(before, chain.then), **asked) as record:
        yield record


@contextmanager
def shortened(model: PreTrainedModel, inputs: Mapping[str, Any], **asked: Any) -> Iterator[tuple[Short, splice.Record]]:
    """Shorten one prompt, which the body may give to the model as often as it likes: `model(**short)`.

    As `drop`, with the same arguments, but the method may go on inside the language model: it does while the body runs.

    Yields:
        The short prompt, and a record whose `.inside` tells what the layers kept once the model has read it.

    Raises:
        HeroError: as `drop`.
    """
    checked = Request.of(**asked)
    short = shorten(model, inputs, checked)
    with reading(model, short, checked) as record:
        yield short, record


@contextmanager
def reading(model: PreTrainedModel, short: Short, request: Request) -> Iterator[splice.Record]:
    """Let the method go on inside the language model, if it does, while the body gives `short` to the model.

    Yields:
        A record whose `.inside` tells what the layers kept once the model has read the prompt.

    Raises:
        HeroError: as `stage_of`.
    """
    record = splice.Record(None, stage=stage_of(model, request))
    record.arm(short, again=True)
    with nullcontext() if record.stage is None else record.stage.installed():
        yield record


def stage_of(model: PreTrainedModel, request: Request) -> Stage | None:
    """Make what goes on inside the language model, if anything was asked for.

    Raises:
        UnsupportedError: this language model cannot be cut.
        MethodError: it has not the layers that the method names.
    """
    inside = request.inside
    if request.strategy is not None:
        return request.strategy.stage(model, request)
    if inside is None or request.all:
        return None
    depth = len(refuse.language_model(model).layers)

    def plan(positions: int, image: int) -> Mapping[int, int]:
        asked = None if isinstance(request.budget, Auto) or not request.alone else request.budget
        return inside.plan(positions, depth, None if asked is None else asked.of(positions, image))

    return Cutter(model, inside.needs(depth), plan, inside.cut)


def greedy(processor: Any, new_tokens: int) -> dict[str, Any]:
    """Make the options of `model.generate` for a greedy answer, whatever the checkpoint says."""
    tokenizer = processor.tokenizer
    end = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    how = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
    return {**how, "pad_token_id": end, "max_new_tokens": new_tokens}


def answered(prompts: Sequence[tuple[Choice, int]], short: Short | None = None, **options: Any) -> Answered:
    """Answer prompts of one view, chosen by one request: the way from what was chosen to new tokens.

    Args:
        prompts: what was chosen, and which prompt of its view.
        short: the shorter inputs of these prompts, where they are made already.
        options: of `model.generate`.

    Raises:
        HeroError: as `dropping`.
    """
    request, model = prompts[0][0].request, prompts[0][0].view.model
    records = []

    def run(short: Short, *, processors: Sequence[Any] = (), streams: int = 1, new_tokens: int | None = None) -> Tensor:
        given = {**options, "logits_processor": [*processors, *options.get("logits_processor", ())]}
        if new_tokens is not None:
            given = {**unwatched(model, options, new_tokens), "logits_processor": list(processors)}
        with reading(model, short, request) as record:
            out: Tensor = model.generate(**{**given, **short})
        records.append(record)
        return out[:, short["input_ids"].shape[1] :]

    if isinstance(request.strategy, Decoding):
        return request.strategy.answer(Asking(prompts, run, ends_of(model, options)))
    short = together(prompts) if short is None else short
    new = run(short)
    sent = tuple(float(sum(kept.positions for kept in choice.of(row))) for choice, row in prompts)
    inside = records[0].inside
    if inside:
        means = iter(inside)
        sent = tuple(sum(round(next(means).mean, 1) for _ in choice.of(row)) for choice, row in prompts)
    return Answered(new, sent, (), short, inside)


def shorten(model: PreTrainedModel, inputs: Mapping[str, Any], request: Request) -> Short:
    """Do what `drop` says, as a checked request."""
    return see(model, inputs, request).choose(request).rebuild()
