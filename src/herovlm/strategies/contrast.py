"""Contrast between many and few tokens of the same picture (ours, after contrastive decoding and SECOND)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from herovlm import budget, spec
from herovlm.errors import MethodError, UnsupportedError
from herovlm.methods.base import Method
from herovlm.methods.fields import within
from herovlm.strategies.streams import Contrast as Processor
from herovlm.strategy import Answered, Asking, Decoding
from herovlm.types import Needs
from herovlm.view import together

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from herovlm.request import Request


@dataclass(frozen=True, kw_only=True)
class Contrast(Decoding):
    """Contrasts what the model says to a prompt with more of the picture with what it says to one with little of it.

    Both are rows of one batch.  What a model says without looking closely, from habit, scores high in both and cancels.
    """

    name: ClassVar[str] = "contrast"
    paper: ClassVar[str] = "of this library"
    fidelity: ClassVar[str] = "of this library"
    formula: ClassVar[str] = "l* = l + weight * (l - l_amateur), among the top likeliest tokens of l"

    amateur: str = "hero"  # method that chooses what the poorer prompt keeps
    keep: float = 0.05  # share of the visual positions that the poorer prompt keeps
    weight: float = 0.5  # of the difference; 0 is greedy decoding
    top: int = 20  # likeliest tokens of the better prompt that can be said

    def __post_init__(self) -> None:
        """Check the ranges, and the amateur's own spec."""
        super().__post_init__()
        within(self, 0, float("inf"), "weight")
        within(self, 1, float("inf"), "top")
        if not 0 < self.keep <= 1:
            raise MethodError(f"{self.name}(keep={self.keep!r}): expected a share in (0, 1], such as 0.05")
        if self._amateur.smaller:
            raise MethodError(f"{self.name}(amateur={self.amateur!r}): it sends another picture; take one that chooses")

    @property
    def _amateur(self) -> Method:
        method = spec.parse(self.amateur)
        if not isinstance(method, Method):
            raise MethodError(f"{self.name}(amateur={self.amateur!r}): expected a method that chooses before the LLM")
        return method

    def needs(self, depth: int) -> Needs:
        """Return what the amateur needs."""
        return self._amateur.needs(depth)

    def check(self, model: PreTrainedModel, request: Request) -> None:
        """Refuse an expert that sends another picture, or keeps no more than the amateur.

        Raises:
            UnsupportedError: it does.
        """
        if request.method.smaller or request.narrow is not None:
            raise UnsupportedError(f"{self} compares prompts of one look at a picture; {request.method} looks again")

    def answer(self, asking: Asking) -> Answered:
        """Answer with two rows a prompt."""
        poorer = replace(asking.request, method=self._amateur, budget=budget.read(self.keep))
        views = {id(choice): choice for choice, _ in asking.prompts}
        amateurs = {key: choice.view.choose(poorer) for key, choice in views.items()}
        rows = [pair for choice, row in asking.prompts for pair in ((amateurs[id(choice)], row), (choice, row))]
        short = together(rows)
        new = asking.run(short, processors=[Processor((self.weight,), self.top)], streams=2)[::2]
        read = [sum(k.positions for k in choice.of(row)) for choice, row in rows]
        positions = tuple(float(sum(pair)) for pair in zip(read[::2], read[1::2], strict=True))
        facts = tuple({"amateur_positions": few, "streams": 2} for few in read[::2])
        return Answered(new, positions, facts, short)
