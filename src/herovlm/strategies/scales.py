"""The pictures of some prompts at several scales, and the climb from the coarsest to the finest of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from herovlm import rebuild
from herovlm.errors import UnsupportedError
from herovlm.llm.rows import last_rows
from herovlm.ops import pyramid
from herovlm.ops.pyramid import Asked, Sides
from herovlm.strategy import Run
from herovlm.towers import scales
from herovlm.types import Seen, Short

if TYPE_CHECKING:
    from herovlm.view import Choice

TILES = 1  # the stage that the local tiles are


class Level(NamedTuple):
    """A picture at one scale, row by row."""

    sides: Sides
    features: Tensor  # (rows * columns, D) as the language model reads them
    mixed: Tensor | None  # as in `scales.Scaled`; None of the local tiles, behind which nothing comes


@dataclass
class Climb:
    """What a prompt reads of its picture, stage by stage."""

    levels: Sequence[Level]
    masks: list[Tensor] = field(init=False)  # of each stage so far, on the finest grid
    why: list[Asked] = field(default_factory=list)  # of each stage but the first

    def __post_init__(self) -> None:
        """Begin with all of the coarsest stage."""
        self.masks = [torch.ones(self.levels[-1].sides, dtype=torch.bool, device=self.levels[-1].features.device)]

    @property
    def kept(self) -> list[Tensor]:
        """Patches of each stage so far."""
        return [pyramid.kept(mask, level.sides) for mask, level in zip(self.masks, self.levels, strict=False)]

    @property
    def counts(self) -> list[int]:
        """How many they are."""
        return [len(own) for own in self.kept]

    def features(self, stages: int) -> Tensor:
        """What the language model reads of the first so many stages: (n, D)."""
        return torch.cat([level.features[own] for level, own in zip(self.levels[:stages], self.kept, strict=False)])

    def step(self, weight: Tensor, first: int, steepness: float) -> None:
        """Choose the patches of the next stage by where the model looks among those that it has read, (n,)."""
        so_far = self.levels[: len(self.masks)]
        mixed = [level.mixed for level in so_far if level.mixed is not None]
        shares = torch.split(weight.to(self.masks[0].device), self.counts)
        found = pyramid.heat(shares, mixed, self.masks, [level.sides for level in so_far], first)
        self.why.append(pyramid.asked(found, steepness))
        self.masks.append(self.why[-1].mask)


@dataclass(frozen=True)
class Prompts:
    """Prompts of one view, each with its picture at all scales."""

    prompts: Sequence[tuple[Choice, int]]
    levels: Sequence[Sequence[Level]]
    stages: Sequence[int]

    def climb(
        self, run: Run, steepness: Sequence[float], rows: Sequence[int], said: Tensor
    ) -> tuple[list[Climb], list[Tensor]]:
        """Read some of the prompts once a stage but the last, and choose what the next one reads.

        Args:
            run: lets the model read.
            steepness: lambda of each step.
            rows: which of the prompts.
            said: (rows, n) int64 tokens that were said already.

        Returns:
            What is read of each picture; and the scores of the next token at each stage but the last, (rows, V).
        """
        climbs, scores = [Climb(self.levels[row]) for row in rows], []
        for step, each in enumerate(steepness):
            short = self.short(rows, climbs, [step + 1], said)
            ids, mask = short["input_ids"], short["attention_mask"]
            with last_rows(self.prompts[0][0].view.model, mask != 0) as found:
                scores.append(scored(run, short))
            weight = pyramid.weights(torch.stack(found), (mask != 0).long().argmax(1))
            for climb, own, look in zip(climbs, ids, weight, strict=True):
                climb.step(look[own == short.image_token], self.stages[0], each)
        return climbs, scores

    def short(self, rows: Sequence[int], climbs: Sequence[Climb], stages: Sequence[int], said: Tensor) -> Short:
        """Make the inputs of prompts with what they read of their first so many stages, a row for each such number."""
        view = self.prompts[0][0].view
        features = [climb.features(count) for climb in climbs for count in stages]
        wanted = [self.prompts[row][1] for row in rows for _ in stages]
        short = rebuild.with_features(view.family, view.model, view.plan, features, wanted)
        said = said.repeat_interleave(len(stages), 0)
        inputs: dict[str, Any] = {**short.inputs}
        inputs["input_ids"] = torch.cat((inputs["input_ids"], said.to(inputs["input_ids"])), 1)
        inputs["attention_mask"] = torch.cat(
            (inputs["attention_mask"], torch.ones_like(said).to(inputs["attention_mask"])), 1
        )
        return Short(inputs, (), (), None, short.image_token)


def scored(run: Run, short: Short) -> Tensor:
    """Let the model read prompts once: the scores of their next tokens, (rows, V)."""
    caught: list[Tensor] = []

    def catch(_ids: Tensor, scores: Tensor) -> Tensor:
        caught.append(scores)
        return scores

    run(short, processors=[catch], new_tokens=1)
    return caught[0]


def seen(prompts: Sequence[tuple[Choice, int]], stages: Sequence[int]) -> Prompts:
    """Look at the pictures of some prompts at all scales, each picture once.

    Raises:
        UnsupportedError: a prompt has not one picture, or a picture has not all scales.
    """
    known: dict[tuple[int, int], list[Level]] = {}
    levels = []
    for choice, row in prompts:
        images = [image for image, own in enumerate(choice.view.plan.rows) if own == row]
        if len(images) != 1:
            raise UnsupportedError(f"second reads one picture a prompt, and prompt {row} has {len(images)}")
        picture = (id(choice.view.looked_at), choice.view.pictures[images[0]])
        if picture not in known:
            known[picture] = _levels(choice, images[0], stages)
        levels.append(known[picture])
    return Prompts(prompts, levels, stages)


def _levels(choice: Choice, image: int, stages: Sequence[int]) -> list[Level]:
    """Look at one picture at all scales."""
    view, picture = choice.view, choice.view.pictures[image]
    family, model, inputs = view.family, view.model, view.looked_at.inputs
    start = sum(len(one.valid) for one in view.looked_at.images[:picture])
    thumbnail = family.tiles(model, inputs)[start : start + 1]
    tower, projector = family.tower(model), family.projector(model)
    blocks = family.feature_blocks(model, inputs, view.depth)
    found = []
    for stage in stages:
        if stage == TILES:
            found.append(_tiles(choice.seen[image]))
            continue
        side = scales.side_of(model.config.vision_config, stage)
        one = scales.see(tower, projector, thumbnail, stage, blocks)
        found.append(Level((side, side), one.features[0], one.mixed[0]))
    return found


def _tiles(one: Seen) -> Level:
    """Lay the local tiles out as one grid, as far as the picture fills them."""
    grid, counts = one.grid, one.counts
    rows, columns = list(counts.rows), list(counts.columns)
    if grid.tiles == (0, 0) or not rows or not columns or one.features is None:
        raise UnsupportedError(
            "a picture that is one tile has no stage 1, which is its local tiles: end the stages at 0, "
            "second(stages=(-2, -1, 0))"
        )
    local = grid.local(one.features).flatten(0, 1)  # (K * N, D)
    canvas = grid.canvas(torch.arange(len(local)).view(-1, grid.side**2))
    return Level((len(rows), len(columns)), local[canvas[rows][:, columns].flatten().to(local.device)], None)
