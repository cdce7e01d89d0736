"""What was seen of the pictures of a call: `see` runs the vision tower once, a `View` is asked as often as one likes.

`herovlm.drop` is `see(model, inputs, request).drop(request)`; evaluation, study, page and benchmarks go the same way.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from herovlm import budget, choose, rebuild, registry
from herovlm.errors import InputsError, MethodError, UsageError
from herovlm.families import smaller
from herovlm.families.base import Family
from herovlm.families.cells import Look
from herovlm.modules import Part, part_of
from herovlm.plan import Plan, plan_of
from herovlm.prompt import positions, words
from herovlm.prompt import question as questions
from herovlm.rebuild import Source
from herovlm.seams import offload, parts, refuse
from herovlm.settle import settle
from herovlm.towers import narrow, relevance
from herovlm.types import Compared, Kept, Narrow, Needs, Relevance, Seen, Short

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from herovlm.request import Request


@parts.once()
def see(model: PreTrainedModel, inputs: Mapping[str, Any], *requests: Request, needs: Needs | None = None) -> View:
    """Run the vision tower once over the pictures of a call, and record what all the requests need.

    Args:
        model: as for `herovlm.drop`.
        inputs: what the model's processor returned.
        requests: what will be asked of the view; others may be asked too, if they need nothing else.
        needs: what to record besides.

    Raises:
        HeroError: as `herovlm.drop`; what is wrong with inputs or budgets is found before the tower runs.
    """
    family = registry.family(model)
    depths = {check(model, request)[1] for request in requests} or {check(model)[1]}
    plan, bound, part = plan_of(family, model, inputs), [request.on(model) for request in requests], part_of(model)
    for request in bound:
        budget.fits(request.budget, len(plan.images))
    (depth,) = depths
    looks: dict[Narrow | None, tuple[Needs, Look]] = {}
    if plan.images:
        wanted: dict[Narrow | None, list[Needs]] = {} if needs is None else {None: [needs]}
        for request in bound:
            if request.all or not request.method.smaller:
                wanted.setdefault(request.cut(depth), []).append(request.needs(depth))
            if request.strategy is not None:
                wanted.setdefault(None, []).append(request.strategy.needs(depth))
        for cut, all_needs in wanted.items():
            joint = union(all_needs if part is None else [*all_needs, part.needs])
            with nullcontext() if part is None else part.looking():
                looks[cut] = (joint, family.see(model, plan.inputs, plan.images, joint, cut))
    return View(model, family, plan, plan, depth, looks, tuple(range(len(plan.images))), part)


def check(model: PreTrainedModel, request: Request | None = None) -> tuple[Family, int]:
    """Check a model against a request, whatever the inputs will be: its family, and how many blocks its tower has.

    Raises:
        ModelError: unsupported model, tower or projector.
        MethodError: the tower has not the blocks that the method or `narrow` names.
        UnsupportedError: its tower cannot be narrowed.
    """
    family = registry.family(model)
    refuse.model(model)
    depth = family.check(model)
    if request is not None:
        if (part := part_of(model)) is not None:
            part.check(request.budget, request.narrow)
        smaller.offered(family, request.method)
        settle(family, model, request.needs(depth), request.method)
        if request.strategy is not None:
            settle(family, model, request.strategy.needs(depth), request.strategy)
            request.strategy.check(model, request)
        if request.cut(depth) is not None:
            family.sees_through(model).narrowable(family.tower(model))
    return family, depth


def union(needs: Sequence[Needs]) -> Needs:
    """Return what all together want recorded; for relevance by the original CLIP the tower has nothing to record."""

    def blocks(name: str) -> tuple[int, ...]:
        return tuple(sorted({block for need in needs for block in getattr(need, name)}))

    return Needs(
        attention=blocks("attention"),
        cls=any(need.cls for need in needs),
        relevance="tower" if any(need.relevance == "tower" for need in needs) else None,
        affinity=any(need.affinity for need in needs),
        dots=any(need.dots for need in needs),
        keys=blocks("keys"),
        queries=blocks("queries"),
        received=blocks("received"),
        probe=any(need.probe for need in needs),
        hidden=any(need.hidden for need in needs),
        words=tuple(dict.fromkeys(kind for need in needs for kind in need.words)),
        layers=next((need.layers for need in needs if need.layers), ()),
    )


def covers(recorded: Needs, needs: Needs) -> bool:
    """Return whether the tower recorded all that is needed; questions are asked later."""
    relevance: Relevance | None = "tower" if needs.relevance == "tower" else None
    return union([recorded, replace(needs, relevance=relevance, words=())]) == recorded


@dataclass(frozen=True, eq=False)
class Choice:
    """What one request chose of a view, before the prompt is rebuilt."""

    view: View
    request: Request
    seen: tuple[Seen, ...]
    kept: tuple[Kept, ...]
    sources: tuple[Source, ...]

    def of(self, row: int) -> list[Kept]:
        """List what was kept of each image of one prompt."""
        return [kept for kept, own in zip(self.kept, self.view.plan.rows, strict=True) if own == row]

    @torch.no_grad()
    def features(self) -> list[Tensor]:
        """Gather what the language model reads of each image, (kept positions, D)."""
        return rebuild.features(self.seen, self.kept, self.sources)

    @torch.no_grad()
    def rebuild(self) -> Short:
        """Make the shorter inputs."""
        original = self.request.positions == "original"
        view = self.view
        return rebuild.rebuild(
            view.family, view.model, view.plan, self.seen, self.kept, self.sources, original=original
        )


@torch.no_grad()
def together(prompts: Sequence[tuple[Choice, int]]) -> Short:
    """Make the shorter inputs of single prompts, chosen by several requests of one view, as one batch.

    Args:
        prompts: a choice, and which of its prompts; all with the same `positions`.
    """
    view, request = prompts[0][0].view, prompts[0][0].request
    plan, images = view.plan.take([row for _, row in prompts])
    chosen = [choice for choice, row in prompts for own in view.plan.rows if own == row]
    seen, kept, sources = (
        [getattr(choice, name)[image] for choice, image in zip(chosen, images, strict=True)]
        for name in ("seen", "kept", "sources")
    )
    original = request.positions == "original"
    return rebuild.rebuild(view.family, view.model, plan, seen, kept, sources, original=original)


@dataclass(frozen=True, eq=False)
class View:
    """Pictures that were seen, and the prompts that they stand in."""

    model: PreTrainedModel
    family: Family
    looked_at: Plan  # the call that the tower ran for
    plan: Plan  # the prompts as they stand now
    depth: int  # blocks of the vision tower
    looks: Mapping[Narrow | None, tuple[Needs, Look]] = field(repr=False)  # what was recorded, by where it was narrowed
    pictures: tuple[int, ...]  # which of the pictures that were looked at each image of the prompts is
    part: Part | None = field(default=None, repr=False)  # makes features anew once the question is known

    def drop(self, request: Request) -> Short:
        """Choose what a request keeps, and make the shorter inputs: `model.generate(**view.drop(request))`.

        Raises:
            HeroError: as `herovlm.drop`.
            UsageError: the request needs what `see` was not told to record.
        """
        request.ends_here("View.drop()")
        return self.choose(request).rebuild()

    @torch.no_grad()
    def choose(self, request: Request) -> Choice:
        """Choose for every image of the prompts, each by its own budget; the prompt is rebuilt from what is returned.

        Raises:
            HeroError: as `drop`.
        """
        request = request.on(self.model)
        budget.fits(request.budget, len(self.pictures))
        seen, sources = self._asked(request)
        kept = self._made(self._chosen(request, seen), seen)
        settled = rebuild.settled(seen, kept, request.positions == "original")
        return Choice(self, request, tuple(seen), tuple(settled), tuple(sources))

    def under(self, ids: Tensor, mask: Tensor, pictures: Sequence[int]) -> View:
        """Return the same pictures under other prompts.

        Args:
            ids: (B, L) token ids with a placeholder for every position that the untouched model sends.
            mask: (B, L) attention mask.
            pictures: which of the pictures each image of the prompts is, in prompt order.

        Raises:
            InputsError: placeholders and pictures do not fit.
        """
        inputs = refuse.inputs({"input_ids": ids, "attention_mask": mask}, self.family.media)
        listed = isinstance(pictures, Sequence) and not isinstance(pictures, str)
        if not listed or not all(type(one) is int and 0 <= one < len(self.looked_at.images) for one in pictures):
            raise InputsError(
                f"pictures={reprlib.repr(pictures)}: give a list of those that the prompts show; "
                f"{len(self.looked_at.images)} were seen, counted from 0"
            )
        images = tuple(self.looked_at.images[picture] for picture in pictures)
        prompt = positions.prompt_of(inputs, self.model.config)
        rows = positions.rows_of(prompt, [image.positions for image in images])
        inputs |= {name: kinds.to(ids.device) for name, kinds in self.family.kinds(prompt).items()}
        return replace(self, plan=Plan(inputs, prompt, images, rows), pictures=tuple(pictures))

    @torch.no_grad()
    def seen(
        self,
        needs: Needs,
        question: str | Sequence[str] | None = None,
        processor: Any = None,
        narrowed: Narrow | None = None,
    ) -> tuple[Seen, ...]:
        """Return what was seen of each image of the prompts, in prompt order.

        Args:
            needs: what is wanted; `see` must have recorded it.
            question: one for all or one a prompt; None reads it from the tokens.
            processor: reads the question; None takes the tokenizer beside the model's weights.
            narrowed: where the tower was narrowed.

        Raises:
            UsageError: it was not recorded.
            HeroError: there is no question, or nothing that could score it.
        """
        look = self._look(needs, narrowed)
        asked = cache(partial(self.questions, question, processor))
        seen = self._made_anew([look.seen[picture] for picture in self.pictures], asked)
        if not needs.question:
            return seen
        made = compared(self, needs, look, asked)
        if needs.words:
            rows = self.plan.rows
            spelled = {row: words.embed(self.model, processor, asked()[row], needs.words) for row in set(rows)}
            made = [{**own, "words": spelled[row]} for own, row in zip(made, rows, strict=True)]
        return tuple(replace(one, **own) for one, own in zip(seen, made, strict=True))

    def _asked(self, request: Request) -> tuple[Sequence[Seen], list[Source]]:
        """What a request sees of each image, the question included, and where its features lie."""
        if not self.pictures:
            return [], []
        if request.method.smaller and not request.all:
            resized = self._resized(request)
            seen = self._made_anew(resized, partial(self.questions, request.question, request.processor))
        else:
            needs, cut = request.needs(self.depth), request.cut(self.depth)
            seen = self.seen(needs, request.question, request.processor, cut)
            if self.part is None:
                look = self._look(needs, cut)
                return seen, [Source(look.features, look.cells[picture], look.beside) for picture in self.pictures]
        return seen, [Source(one.features.flatten(0, 1), 0) for one in seen if one.features is not None]

    def _made_anew(self, seen: Sequence[Seen], asked: Callable[[], Sequence[str]]) -> tuple[Seen, ...]:
        """Let a trained part, if there is one, make the features of each image anew by the question of its prompt."""
        if self.part is None or not seen:
            return tuple(seen)
        return tuple(self.part.asked(seen, [asked()[row] for row in self.plan.rows]))

    def _resized(self, request: Request) -> list[Seen]:
        """Look at smaller pictures, each image by its own budget; one picture may stand there with several."""
        geometry = [self.looked_at.images[picture] for picture in self.pictures]
        whole = [Seen(one.grid, one.valid, counted=one.counts) for one in geometry]
        left = {i: (p, request.spend(i, one)) for i, (p, one) in enumerate(zip(self.pictures, whole, strict=True))}
        found: dict[int, Seen] = {}
        while left:
            now = dict(reversed(left.values()))  # the first budget of each picture
            with nullcontext() if self.part is None else self.part.looking():
                seen = smaller.see(
                    self.family,
                    self.model,
                    self.looked_at.inputs,
                    self.looked_at.images,
                    lambda picture, one, now=now: now.get(picture, one.positions),  # type: ignore[misc]
                    request.processor,
                    getattr(request.method, "prefer", "positions"),
                    Needs() if self.part is None else self.part.needs,
                )
            done = {image: picture for image, (picture, budget) in left.items() if now[picture] == budget}
            found |= {image: seen[picture] for image, picture in done.items()}
            left = {image: own for image, own in left.items() if image not in done}
        return [found[image] for image in range(len(self.pictures))]

    def _look(self, needs: Needs, narrowed: Narrow | None) -> Look:
        """Find a run of the tower that recorded what is needed."""
        recorded, look = self.looks.get(narrowed, (None, None))
        if recorded is None or look is None or not covers(recorded, needs):
            raise UsageError("this view has not recorded what is needed; name the request, or its needs, in see()")
        return look

    def questions(self, asked: str | Sequence[str] | None, processor: Any) -> list[str]:
        """One question a prompt: given, or read from the tokens."""
        prompt = self.plan.prompt
        count = len(prompt.ids)
        if isinstance(asked, str):
            return [asked] * count
        if asked is not None:
            if len(asked) != count:
                raise InputsError(f"{len(asked)} questions for {count} prompts; give one, or one a prompt")
            return list(asked)
        tokenizer = questions.tokenizer_of(processor, self.model)
        return [questions.from_ids(i, m, prompt.image, tokenizer) for i, m in zip(prompt.ids, prompt.mask, strict=True)]

    def _chosen(self, request: Request, seen: Sequence[Seen]) -> list[Kept]:
        """Choose for every image."""
        if request.all:
            return [Kept(one.valid, one.grid.sent, spent=one.counts.positions) for one in seen]
        counts = [request.spend(image, one) for image, one in enumerate(seen)]
        exact = request.method.exact
        left = [narrow.survivors(one, count if exact else 0) for one, count in zip(seen, counts, strict=True)]
        shares = [request.budget.share(image) for image in range(len(seen))]
        return choose.together(request.method, left, counts, request.newlines, shares)

    def _made(self, kept: Sequence[Kept], seen: Sequence[Seen]) -> list[Kept]:
        """Project the features that a method made of states before the projector."""
        made = []
        for own, one in zip(kept, seen, strict=True):
            if own.hidden is not None and one.hidden is None:
                raise MethodError(
                    "Kept.hidden goes through the projector; a method that gives it must need hidden states"
                )
            if own.hidden is not None:
                project = partial(self.family.project, self.model) if self.part is None else self.part.project
                own = replace(own, features=project(own.hidden.to(one.hidden)))
            made.append(own)
        return made


def compared(view: View, needs: Needs, look: Look, asked: Callable[[], Sequence[str]]) -> list[dict[str, Any]]:
    """Compare each image with the question of its prompt: the fields of `Seen` that this makes, one dict an image."""
    made: list[dict[str, Any]] = [{} for _ in view.pictures]

    tiles = [slice(look.starts[i], look.starts[i] + len(look.seen[i].valid)) for i in view.pictures]

    def compare(name: str, kind: Compared, images: Sequence[int], source: Tensor) -> None:
        spans = [tiles[image] for image in images]
        if not spans:
            return
        counts = [span.stop - span.start for span in spans]
        prompts = [view.plan.rows[image] for image, count in zip(images, counts, strict=True) for _ in range(count)]
        neighbours = all(a.stop == b.start for a, b in pairwise(spans))
        looked_at = source[spans[0].start : spans[-1].stop] if neighbours else torch.cat([source[at] for at in spans])
        scores = relevance.score(view.model, kind, asked(), looked_at, prompts)
        for image, part in zip(images, torch.split(scores, counts), strict=True):
            made[image][name] = part

    every = range(len(made))
    if needs.relevance is not None:  # a lone tile has nothing to be compared with
        several = [image for image in every if tiles[image].stop - tiles[image].start > 1]
        if needs.relevance == "tower" and look.states is not None:
            compare("relevance", "tower", several, look.states[:, 0])
        elif several:
            pixels = offload.beside(view.family.tiles(view.model, view.looked_at.inputs), look.features.device)
            compare("relevance", "clip", several, pixels)
    if needs.affinity and look.states is not None:
        compare("affinity", "tower", every, look.states[:, 1:])
    if needs.dots and look.hidden is not None:
        compare("dots", "dots", every, look.hidden)
    return made
