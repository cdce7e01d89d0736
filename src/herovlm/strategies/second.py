"""SECOND: read a picture from coarse to fine, and contrast what is said at each scale (arXiv 2506.08391)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from herovlm.errors import MethodError, UnsupportedError
from herovlm.methods.fields import within
from herovlm.methods.full import Full
from herovlm.modules import part_of
from herovlm.ops.contrast import contrasted
from herovlm.registry import family as family_of
from herovlm.seams import refuse
from herovlm.strategies import scales
from herovlm.strategies.scales import Climb, Prompts
from herovlm.strategies.streams import Contrast
from herovlm.strategy import Answered, Asking, Decoding
from herovlm.towers.clip import Clip
from herovlm.towers.scales import side_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from herovlm.request import Request

Steps = float | tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Second(Decoding):
    """Reads the picture at several scales, at each only where the coarser ones say, and contrasts their answers.

    Stage 0 is the thumbnail, stage 1 the local tiles as one grid, and a stage below 0 the thumbnail made smaller by a
    power of 2.  Each is read behind the coarser ones; which of its patches are, is decided by where the model looked.
    """

    name: ClassVar[str] = "second"
    paper: ClassVar[str] = "arXiv 2506.08391"
    fidelity: ClassVar[str] = "golden parity"
    formula: ClassVar[str] = (
        "stage s+1 reads the cells of V that reach the (p * cells)-th largest; V = sum over stages r <= s of 4^(r+2) * "
        "LLM attention * tower attention, p = (e^(lambda H) - 1)/(e^lambda - 1), H = entropy of V's rows; "
        "l* = l_S + sum_i alpha_i (l_i+1 - l_i), among the top likeliest tokens of l_S"
    )

    stages: tuple[int, ...] = (-2, -1, 0, 1)  # from coarse to fine, one after the other
    lambdas: Steps = 1.0  # of each step to the next stage, or of all: the larger, the fewer patches are read
    alphas: Steps = 0.8  # of each step's contrast, or of all; 0 is greedy decoding of the last stage
    top: int = 20  # likeliest tokens of the last stage that can be said
    refresh: Literal["first", "every"] = "first"  # choose patches for the first token, or anew for every token

    def __post_init__(self) -> None:
        """Check the stages, and a number for each step."""
        super().__post_init__()
        within(self, 1, float("inf"), "top")
        run = tuple(range(self.stages[0], self.stages[0] + len(self.stages)))
        if self.stages != run or len(run) < 2 or run[-1] > scales.TILES:
            raise MethodError(
                f"{self.name}(stages={self.stages}): expected two or more whole numbers, one after the other and none "
                f"above {scales.TILES}, such as (-2, -1, 0, 1) or (0, 1)"
            )
        for name in ("lambdas", "alphas"):
            if len(self.steps(name)) != len(run) - 1:
                raise MethodError(
                    f"{self.name}({name}={getattr(self, name)!r}): {len(run)} stages have {len(run) - 1} steps; give a "
                    "number for each, or one for all"
                )

    def steps(self, name: str) -> tuple[float, ...]:
        """Return a field that has a number for each step, or one for all, as one for each."""
        given: Steps = getattr(self, name)
        return given if isinstance(given, tuple) else (given,) * (len(self.stages) - 1)

    def check(self, model: PreTrainedModel, request: Request) -> None:
        """Refuse what has no scales, and what chooses or numbers patches besides.

        Raises:
            UnsupportedError: it does.
        """
        family = family_of(model)
        if not isinstance(family.sees_through(model), Clip):
            raise UnsupportedError(f"{self} looks through a CLIP tower at several scales; this {family.name} has none")
        refuse.language_model(model)  # its layers are read
        if not side_of(model.config.vision_config, self.stages[0]):
            raise UnsupportedError(f"{self}: nothing is left of a tile at stage {self.stages[0]}; begin later")
        if not request.all and not isinstance(request.method, Full):
            raise UnsupportedError(f"{self} chooses by itself what is read; write full before it, not {request.method}")
        if request.positions == "original" or request.newlines is not None:
            raise UnsupportedError(f"{self} sends patches of other scales, without newlines; leave both options out")
        if part_of(model) is not None:
            raise UnsupportedError(f"{self} with a part that makes features anew, which other scales do not have")

    @torch.no_grad()
    def answer(self, asking: Asking) -> Answered:
        """Choose patches, then write with a row a stage; or choose and read anew before every token."""
        prompts, rows = scales.seen(asking.prompts, self.stages), range(len(asking.prompts))
        none = torch.empty(len(rows), 0, dtype=torch.long)
        depth, alphas = len(self.stages), self.steps("alphas")
        if self.refresh == "every":
            anew = _Anew(self, prompts, asking)
            first = prompts.short(rows, [Climb(levels) for levels in prompts.levels], [1], none)
            anew.length = first["input_ids"].shape[1]
            new = asking.run(first, processors=[anew])
            return Answered(new, tuple(anew.read), tuple(map(_told, anew.first, anew.passes)), None)
        climbs, _ = prompts.climb(asking.run, self.steps("lambdas"), rows, none)
        streams = range(1, depth + 1) if any(alphas) else [depth]
        short = prompts.short(rows, climbs, streams, none)
        processors = [Contrast(alphas, self.top)] if any(alphas) else []
        new = asking.run(short, processors=processors, streams=len(streams))[:: len(streams)]
        read = tuple(_read(climb, [*range(1, depth), *streams]) for climb in climbs)
        return Answered(new, read, tuple(_told(climb, depth - 1 + len(streams)) for climb in climbs), short)


@dataclass
class _Anew:
    """A logits processor that forgets what the model says, and reads every stage anew behind what was said.

    The loop of generate() is that of a prompt with the coarsest stage alone: it counts, stops and streams.
    """

    second: Second
    prompts: Prompts
    asking: Asking
    length: int = 0  # of the prompt in the loop
    first: list[Climb] = field(default_factory=list)  # of each prompt, at its first token
    read: list[float] = field(default_factory=list)  # visual positions of each prompt
    passes: list[int] = field(default_factory=list)  # over each prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the contrast of all stages for the rows that have not ended, (B, V)."""
        said, depth = input_ids[:, self.length :], len(self.second.stages)
        rows = [row for row, own in enumerate(said) if self.asking.ends.isdisjoint(own.tolist())]
        if not rows:
            return scores
        some = said[rows]
        steps, alphas = self.second.steps("lambdas"), self.second.steps("alphas")
        climbs, stages = self.prompts.climb(self.asking.run, steps, rows, some)
        stages.append(scales.scored(self.asking.run, self.prompts.short(rows, climbs, [depth], some)))
        barred = scores[rows].isneginf()  # by whatever generate() was given, which looks at this loop alone
        views = torch.stack(stages)
        pushed = contrasted(views.masked_fill(barred.to(views.device), -torch.inf), alphas, self.second.top)
        if not self.first:
            self.first, self.read, self.passes = climbs, [0.0] * len(climbs), [0] * len(climbs)
        for row, climb in zip(rows, climbs, strict=True):
            self.read[row] += _read(climb, range(1, depth + 1))
            self.passes[row] += depth
        return scores.float().index_copy(0, torch.tensor(rows, device=scores.device), pushed.to(scores.device))


def _read(climb: Climb, stages: Sequence[int]) -> float:
    """Count visual positions of passes that read the first so many stages each."""
    return float(sum(sum(climb.counts[:count]) for count in stages))


def _told(climb: Climb, passes: int) -> dict[str, Any]:
    """What there is to know of an answer."""
    return {
        "kept": climb.counts,
        "entropy": [round(one.entropy, 4) for one in climb.why],
        "share": [round(one.share, 4) for one in climb.why],
        "passes": passes,
    }
