"""What was seen of the pictures of a call: `see` runs the vision tower once, a `View` is asked as often as one likes.

`herovlm.drop` is `see(model, inputs, request).drop(request)`; evaluation, study, page and benchmarks go the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from herovlm import budget, choose, rebuild, registry
from herovlm.adapters import narrow, positions, question, refuse, relevance, smaller, words
from herovlm.adapters.base import Adapter, Look
from herovlm.adapters.narrow import Narrow
from herovlm.errors import InputsError, MethodError, UsageError
from herovlm.plan import Plan, plan_of
from herovlm.rebuild import Source
from herovlm.types import Compared, Kept, Needs, Seen, Short

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from herovlm.request import Request


def see(model: PreTrainedModel, inputs: Mapping[str, Any], *requests: Request) -> View:
    """Run the vision tower once over the pictures of a call, and record what all the requests need.

    Args:
        model: as for `herovlm.drop`.
        inputs: what the model's processor returned.
        requests: what will be asked of the view; others may be asked too, if they need nothing else.

    Raises:
        HeroError: as `herovlm.drop`; what is wrong with inputs or budgets is found before the tower runs.
    """
    family = registry.adapter(model)
    depths = {check(model, request)[1] for request in requests} or {check(model)[1]}
    plan, bound = plan_of(family, model, inputs), [request.on(model) for request in requests]
    for request in bound:
        budget.fits(request.budget, len(plan.images))
    (depth,) = depths
    looks: dict[Narrow | None, tuple[Needs, Look]] = {}
    if plan.images:
        wanted: dict[Narrow | None, list[Needs]] = {}
        for request in bound:
            if request.all or not request.method.smaller:
                wanted.setdefault(request.cut(depth), []).append(request.needs(depth))
        for cut, needs in wanted.items():
            looks[cut] = (union(needs), family.see(model, plan.inputs, plan.images, union(needs), cut))
    return View(model, family, plan, depth, looks, tuple(range(len(plan.images))))


def check(model: PreTrainedModel, request: Request | None = None) -> tuple[Adapter, int]:
    """Check a model against a request, whatever the inputs will be: its family, and how many blocks its tower has.

    Raises:
        ModelError: unsupported model, tower or projector.
        MethodError: the tower has not the blocks that the method or `narrow` names.
        UnsupportedError: its tower cannot be narrowed.
    """
    family = registry.adapter(model)
    refuse.model(model)
    depth = family.check(model)
    if request is not None:
        request.needs(depth)
        if request.cut(depth) is not None:
            narrow.layers_of(family.tower(model))
    return family, depth


def union(needs: Sequence[Needs]) -> Needs:
    """What all together want recorded; of the kinds of relevance the first (both are made of the same record)."""

    def blocks(name: str) -> tuple[int, ...]:
        return tuple(sorted({block for need in needs for block in getattr(need, name)}))

    return Needs(
        attention=blocks("attention"),
        cls=any(need.cls for need in needs),
        relevance=next((need.relevance for need in needs if need.relevance == "tower"), None)
        or next((need.relevance for need in needs if need.relevance), None),
        affinity=any(need.affinity for need in needs),
        dots=any(need.dots for need in needs),
        keys=blocks("keys"),
        received=blocks("received"),
        hidden=any(need.hidden for need in needs),
        words=tuple(dict.fromkeys(kind for need in needs for kind in need.words)),
    )


def covers(recorded: Needs, needs: Needs) -> bool:
    """Return whether nothing is needed that was not recorded, but for what the question is compared with later."""
    return union([recorded, replace(needs, relevance=None, words=())]) == recorded


@dataclass(frozen=True, eq=False)
class Choice:
    """What one request chose of a view, before the prompt is rebuilt."""

    view: View
    request: Request
    seen: tuple[Seen, ...]
    kept: tuple[Kept, ...]
    sources: tuple[Source, ...]

    @torch.no_grad()
    def rebuild(self) -> Short:
        """Make the shorter inputs."""
        original = self.request.positions == "original"
        return rebuild.rebuild(self.view.model, self.view.plan, self.seen, self.kept, self.sources, original=original)


@dataclass(frozen=True, eq=False)
class View:
    """Pictures that were seen, and the prompts that they stand in."""

    model: PreTrainedModel
    family: Adapter
    plan: Plan
    depth: int  # blocks of the vision tower
    looks: Mapping[Narrow | None, tuple[Needs, Look]] = field(repr=False)  # what was recorded, by where it was narrowed
    pictures: tuple[int, ...]  # which of the pictures that were looked at each image of the prompts is

    def drop(self, request: Request) -> Short:
        """Choose what a request keeps, and make the shorter inputs: `model.generate(**view.drop(request))`.

        Raises:
            HeroError: as `herovlm.drop`.
            UsageError: the request needs what `see` was not told to record.
        """
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
        inputs = {**self.plan.inputs, "input_ids": ids, "attention_mask": mask}
        prompt = positions.prompt_of(inputs, self.model.config)
        images = tuple(self.plan.images[self.pictures.index(picture)] for picture in pictures)
        rows = positions.samples_of(prompt, [image.positions for image in images])
        return replace(self, plan=Plan(inputs, prompt, images, tuple(rows)), pictures=tuple(pictures))

    def _asked(self, request: Request) -> tuple[list[Seen], list[Source]]:
        """What a request sees of each image, the question included, and where its features lie."""
        if not self.pictures:
            return [], []
        if request.method.smaller and not request.all:
            resized = smaller.see(self.family, self.model, self.plan, request.spend, request.processor)
            return list(resized), [Source(_flat(one), 0) for one in resized]
        needs, look = self._look(request)
        patches = look.features.shape[1]
        flat = look.features.flatten(0, 1)
        sources = [Source(flat, look.starts[picture] * patches) for picture in self.pictures]
        seen = [look.seen[picture] for picture in self.pictures]
        return self._compared(request, needs, look, seen), sources

    def _look(self, request: Request) -> tuple[Needs, Look]:
        """Find what was recorded for a request."""
        needs, cut = request.needs(self.depth), request.cut(self.depth)
        recorded, look = self.looks.get(cut, (None, None))
        if recorded is None or look is None or not covers(recorded, needs):
            raise UsageError(f"this view has not recorded what {request.method} needs; name the request in see()")
        return needs, look

    def _compared(self, request: Request, needs: Needs, look: Look, seen: list[Seen]) -> list[Seen]:
        """Put beside each image what it has to do with the question of its prompt."""
        if not needs.question:
            return seen
        asked, rows = self._questions(request), self.plan.rows
        made: list[dict[str, Any]] = [{} for _ in seen]

        def compare(name: str, kind: Compared, images: Sequence[int], looked_at: Sequence[Tensor]) -> None:
            if images:
                prompts = [rows[image] for image, own in zip(images, looked_at, strict=True) for _ in own]
                scores = relevance.score(self.model, kind, asked, _joined(looked_at), prompts)
                for image, part in zip(images, torch.split(scores, [len(own) for own in looked_at]), strict=True):
                    made[image][name] = part

        counts = [len(one.valid) for one in look.seen]
        tiles = [slice(start, start + count) for start, count in zip(look.starts, counts, strict=True)]
        at = [tiles[picture] for picture in self.pictures]
        if needs.relevance is not None:  # a lone tile has nothing to be compared with
            several = [image for image, own in enumerate(at) if own.stop - own.start > 1]
            pixels = needs.relevance == "clip" and bool(several)
            source = self.family.tiles(self.model, self.plan.inputs).to(look.states.device) if pixels else look.states
            compare(
                "relevance", needs.relevance, several, [source[at[i]] if pixels else source[at[i], 0] for i in several]
            )
        if needs.affinity:
            compare("affinity", "tower", range(len(at)), [look.states[own, 1:].float() for own in at])
        if needs.dots and look.hidden is not None:
            compare("dots", "dots", range(len(at)), [look.hidden[own].float() for own in at])
        if needs.words:
            spelled = {row: words.embed(self.model, request.processor, asked[row], needs.words) for row in set(rows)}
            for image, row in enumerate(rows):
                made[image]["words"] = spelled[row]
        return [replace(one, **own) for one, own in zip(seen, made, strict=True)]

    def _questions(self, request: Request) -> list[str]:
        """One question a prompt: given, or read from the tokens."""
        prompt = self.plan.prompt
        count = len(prompt.ids)
        if isinstance(request.question, str):
            return [request.question] * count
        if request.question is not None:
            if len(request.question) != count:
                raise InputsError(f"{len(request.question)} questions for {count} prompts; give one, or one a prompt")
            return list(request.question)
        tokenizer = question.tokenizer_of(request.processor, self.model)
        return [question.from_ids(i, m, prompt.image, tokenizer) for i, m in zip(prompt.ids, prompt.mask, strict=True)]

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
                own = replace(own, features=self.family.project(self.model, own.hidden.to(one.hidden)))
            made.append(own)
        return made


def _flat(seen: Seen) -> Tensor:
    if seen.features is None:
        raise UsageError("the features of a smaller picture were not recorded")
    return seen.features.flatten(0, 1)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
