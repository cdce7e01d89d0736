"""drop() and dropping(): method x adapter -> shorter inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from herovlm import budget, registry, splice
from herovlm.adapters import narrow as narrowing
from herovlm.adapters import positions as places
from herovlm.adapters import question as questions
from herovlm.adapters import refuse, relevance, smaller, words
from herovlm.adapters.base import Adapter, Score, everything
from herovlm.adapters.inside import Cutter
from herovlm.adapters.narrow import survivors
from herovlm.budget import Auto
from herovlm.errors import InputsError, UnsupportedError
from herovlm.request import AnyKeep, AnyMethod, AnyNarrow, AnyTokens, Options, Positions, options_of
from herovlm.types import Compared, Kept, Needs, Newlines, Seen, Short

__all__ = ["AnyKeep", "AnyMethod", "AnyNarrow", "AnyTokens", "Options", "Positions", "options_of"]  # handed on

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
    positions: Positions = "compact",
    newlines: Newlines | None = None,
    narrow: AnyNarrow | None = None,
) -> Short:
    """Shorten model inputs: the vision tower runs once, a method chooses, and the rest never reaches the LLM.

    `model.generate(**short)` and `model(**short)` take the result.  Features carry no gradient.

    Args:
        model: a LLaVA-NeXT or LLaVA-1.5 of transformers >= 5.18, any language model behind it.
        inputs: what the model's processor returned (a batch of mixed sizes and several images a prompt are fine).
        method: a method object, or its spec: "hero", "hero(alpha=0.3)"; "hero + fastv" needs `dropping`.
        keep: share in (0, 1] of the visual positions that the untouched model sends for an image, newlines counted, or
            a list with one an image in prompt order; 0.2 by default, 1.0 is the untouched model.  "auto(loss=0.05)": by
            what is in the picture, for a loss that `herovlm calibrate` measured on this model.
        tokens: instead: whole number of positions an image (who has fewer keeps all), or a list with one an image.
        question: the user's words, one for all or one a prompt; None reads them from input_ids.
        processor: a processor or tokenizer to read the question with; None takes the one beside the model's weights.
        positions: "compact" numbers the short prompt 0, 1, ...; "original" keeps the untouched prompt's numbers.
        newlines: which newlines to keep; None is the method's own rule.
        narrow: share of each tile's patches that goes on behind a middle block of the vision tower, or (block, share),
            the block a number or a relative depth: faster, and results change (see `herovlm.adapters.narrow`).  The
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
    options = options_of(method, keep, tokens, question, processor, positions, newlines, narrow)
    if options.inside is not None:
        raise UnsupportedError(
            f"drop() only shortens inputs, and {options.inside.name!r} goes on inside the language model; use "
            f"'with herovlm.dropping(model, method={str(method)!r}): model.generate(**inputs)'"
        )
    return shorten(model, inputs, options)


@contextmanager
def dropping(
    model: PreTrainedModel,
    *,
    method: AnyMethod = "hero",
    keep: AnyKeep | None = None,
    tokens: AnyTokens | None = None,
    question: str | Sequence[str] | None = None,
    processor: Any = None,
    positions: Positions = "compact",
    newlines: Newlines | None = None,
    narrow: AnyNarrow | None = None,
) -> Iterator[splice.Record]:
    """Shorten whatever this model instance is given, for callers that own `generate`: pipelines, harnesses.

    Sequences come back with the original prompt in front, so that cutting it off by length still works; `max_length`,
    `min_length`, streamers, logits processors and stopping criteria see the original prompt too.  A direct `model(...)`
    returns logits of the short prompt.  On exit, also after an error, the instance is as it was.

    Args: as for `drop`; `method` may go on inside the language model.  In a chain, "hero + fastv(keep=0.5)", `keep` is
    what the first method sends to the language model, and the second goes on from there by its own fields.  Alone,
    "fastv", everything is sent, and `keep` is the mean over the layers: the method's own number is found from it (one
    that has a number, "fastv(keep=0.5)", goes by that).  "full + fastv" sends everything, whatever `keep` is.

    Yields:
        A record whose `.last` is the `Short` of the last call; `.inside` tells what the layers kept of each image.

    Raises:
        HeroError: as `drop`; options and model are checked on entry, inputs on each call.
    """
    options = options_of(method, keep, tokens, question, processor, positions, newlines, narrow)
    check(model, options)
    options = options.on(model)
    record = splice.Record(
        lambda inputs: shorten(model, inputs, options),
        original=positions == "original",
        cutter=cutter_of(model, options),
    )
    with splice.installed(model, record):
        yield record


@contextmanager
def shortened(
    model: PreTrainedModel, inputs: Mapping[str, Any], **options: Any
) -> Iterator[tuple[Short, splice.Record]]:
    """Shorten one prompt, which the body may give to the model as often as it likes: `model(**short)`.

    As `drop`, with the same options, but the method may go on inside the language model: it does while the body runs.

    Yields:
        The short prompt, and a record whose `.inside` tells what the layers kept once the model has read it.

    Raises:
        HeroError: as `drop`.
    """
    checked = options_of(**options)
    short = shorten(model, inputs, checked)
    with reading(model, short, checked) as record:
        yield short, record


@contextmanager
def reading(model: PreTrainedModel, short: Short, options: Options) -> Iterator[splice.Record]:
    """Let the method go on inside the language model, if it does, while the body gives `short` to the model.

    Yields:
        A record whose `.inside` tells what the layers kept once the model has read the prompt.

    Raises:
        HeroError: as `cutter_of`.
    """
    record = splice.Record(lambda _: short, cutter=cutter_of(model, options))
    record.arm(short, again=True)
    with nullcontext() if record.cutter is None else record.cutter.installed():
        yield record


def cutter_of(model: PreTrainedModel, options: Options) -> Cutter | None:
    """Make what goes on inside the language model, if anything was asked for.

    Raises:
        UnsupportedError: this language model cannot be cut.
        MethodError: it has not the layers that the method names.
    """
    inside = options.inside
    if inside is None or options.all:
        return None
    depth = len(refuse.language_model(model).layers)

    def plan(positions: int, image: int) -> Mapping[int, int]:
        asked = None if isinstance(options.budget, Auto) or not options.alone else options.budget
        return inside.plan(positions, depth, None if asked is None else asked.of(positions, image))

    return Cutter(model, inside.needs(depth), plan, inside.cut)


def shorten(model: PreTrainedModel, inputs: Mapping[str, Any], options: Options) -> Short:
    """Do what `drop` says, with options already checked."""
    options = options.on(model)
    return choose(model, inputs, options, look(model, inputs, options))


def check(model: PreTrainedModel, options: Options) -> tuple[Adapter, int]:
    """Check a model against options, whatever the inputs will be: its adapter, and how many blocks its tower has.

    Raises:
        ModelError: unsupported model, tower or projector.
        MethodError: the tower has not the blocks that the method or `narrow` names.
        UnsupportedError: its tower cannot be narrowed.
    """
    adapter = registry.adapter(model)
    refuse.model(model)
    depth = adapter.check(model)
    options.needs(depth)
    if options.cut(depth) is not None:
        narrowing.layers_of(adapter.tower(model))
    return adapter, depth


def look(model: PreTrainedModel, inputs: Mapping[str, Any], options: Options) -> tuple[Seen, ...]:
    """Run the vision tower and record what the method needs: the first half of `shorten`."""
    adapter, depth = check(model, options)
    refuse.not_a_mapping(inputs)
    options = options.on(model)
    if inputs.get("pixel_values") is None:
        refuse.no_pictures(model, inputs)
        budget.fits(options.budget, 0)
        return ()
    if options.budget.listed:
        budget.fits(options.budget, len(adapter.prompts(model, inputs)[0]))  # before the tower runs
    if options.method.smaller and not options.all:
        return smaller.see(adapter, model, inputs, options.spend, options.processor)
    needs = options.needs(depth)
    seen = adapter.see(model, inputs, needs, _score(model, inputs, needs, options), options.cut(depth))
    return _worded(model, inputs, needs, options, seen) if needs.words else seen


def choose(model: PreTrainedModel, inputs: Mapping[str, Any], options: Options, seen: tuple[Seen, ...]) -> Short:
    """Choose by what was seen, and rebuild the prompt: the second half of `shorten`."""
    if not seen:
        prompt = places.prompt_of(inputs, model.config)
        return Short(dict(inputs), (), (), tuple(places.columns(prompt, (), ())), prompt.image)
    kept = chosen(options.on(model), seen)
    return registry.adapter(model).rebuild(model, inputs, seen, kept, original=options.positions == "original")


def chosen(options: Options, seen: Sequence[Seen]) -> list[Kept]:
    """Choose for every image of a call, each by its own budget."""
    if options.all:
        return [everything(one) for one in seen]
    found = []
    for image, one in enumerate(seen):
        count = options.spend(image, one)
        left = survivors(one, count if options.method.exact else 0)
        found.append(options.method.keep(left, count, options.newlines, share=options.budget.share(image)))
    return found


def _score(model: PreTrainedModel, inputs: Mapping[str, Any], needs: Needs, options: Options) -> Score | None:
    """Prepare the cosines with the question, if the method wants any."""
    if not needs.question:
        return None

    def score(kind: Compared, looked_at: Tensor, prompt: list[int]) -> Tensor:
        return relevance.score(model, kind, _questions(model, inputs, options), looked_at, prompt)

    return score


def _worded(
    model: PreTrainedModel, inputs: Mapping[str, Any], needs: Needs, options: Options, seen: tuple[Seen, ...]
) -> tuple[Seen, ...]:
    """Put the words of its prompt's question beside what was seen of each image."""
    asked, prompt = _questions(model, inputs, options), places.prompt_of(inputs, model.config)
    rows = places.samples_of(prompt, [s.positions for s in seen])
    found = {row: words.embed(model, options.processor, asked[row], needs.words) for row in set(rows)}
    return tuple(replace(s, words=found[row]) for s, row in zip(seen, rows, strict=True))


def _questions(model: PreTrainedModel, inputs: Mapping[str, Any], options: Options) -> list[str]:
    """One question a prompt: given, or read from input_ids."""
    prompt = places.prompt_of(inputs, model.config)
    count = len(prompt.ids)
    if isinstance(options.question, str):
        return [options.question] * count
    if options.question is not None:
        if len(options.question) != count:
            raise InputsError(f"{len(options.question)} questions for {count} prompts; give one, or one a prompt")
        return list(options.question)
    tokenizer = questions.tokenizer_of(options.processor, model)
    return [questions.from_ids(i, m, prompt.image, tokenizer) for i, m in zip(prompt.ids, prompt.mask, strict=True)]
