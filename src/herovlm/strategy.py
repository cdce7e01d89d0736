"""The contract of what an answer goes through besides one reading of a chosen prompt: decoding, and trained parts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor

from herovlm.methods.fields import Described
from herovlm.types import KeptInside, Needs, Short

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from herovlm.stage import Stage

Request = Any  # a `herovlm.request.Request`
Choice = Any  # a `herovlm.view.Choice`; both know strategies, so that these do not know them


@dataclass(frozen=True, kw_only=True)
class Strategy(Described):
    """Stands behind a plus, "hero + name(field=value)"; subclasses are frozen dataclasses, one paper a file.

    One that only goes along while the model reads and writes gives a `stage`; one that asks the model in its own way is
    a `Decoding`.
    """

    first: ClassVar[str] = "full"  # spec of the method before it, where none is named

    def needs(self, depth: int) -> Needs:
        """Return what it wants of a vision tower with `depth` blocks, besides what the method before it needs."""
        return Needs()

    def check(self, model: PreTrainedModel, request: Request) -> None:  # most go with everything
        """Check that it makes sense with a model and with what else was asked for.

        Raises:
            UnsupportedError, ModelError: it does not, and why.
        """

    def stage(self, model: PreTrainedModel, request: Request) -> Stage | None:
        """Make what goes along while this model reads a prompt and writes its answer.

        Raises:
            HeroError: it cannot with this model.
        """
        return None


class Run(Protocol):
    """Lets the model answer, with the options that the caller gave."""

    def __call__(
        self,
        short: Short,
        *,
        processors: Sequence[Callable[[Tensor, Tensor], Tensor]] = (),
        streams: int = 1,
        new_tokens: int | None = None,
    ) -> Tensor:
        """Return new token ids, (rows of `short`, n) int64.

        Args:
            short: the prompts.
            processors: change the scores (rows, vocabulary) before those of the caller do.
            streams: rows that belong to one prompt of the caller, side by side; they must get the same scores.
            new_tokens: most of them, where this is not the answer itself: whoever watches it is told nothing.
        """


@dataclass(frozen=True, eq=False)
class Asking:
    """What a decoding strategy is given: prompts of one view, chosen by one request, and the way to the model."""

    prompts: Sequence[tuple[Choice, int]]  # what was chosen, and which prompt of its view
    run: Run
    ends: frozenset[int] = frozenset()  # tokens that end an answer

    @property
    def model(self) -> PreTrainedModel:
        """The model that answers."""
        model: PreTrainedModel = self.prompts[0][0].view.model
        return model

    @property
    def request(self) -> Request:
        """What was asked for."""
        return self.prompts[0][0].request


@dataclass(frozen=True, eq=False)
class Answered:
    """The answers to some prompts."""

    new: Tensor  # (B, n) int64 token ids, padded behind their ends
    positions: tuple[float, ...]  # (B,) visual positions that the model read for each, over all passes of its prompt
    facts: tuple[Mapping[str, Any], ...] = ()  # (B,) what else there is to know of each, in plain values
    short: Short | None = None  # what the answer was written from
    inside: tuple[KeptInside, ...] = ()  # of each image, what the layers kept


@dataclass(frozen=True, kw_only=True)
class Decoding(Strategy):
    """Asks the model in its own way: several views of a picture at once, or one after the other.

    It answers greedily: the rows of one prompt must go the same way.
    """

    @abstractmethod
    def answer(self, asking: Asking) -> Answered:
        """Answer some prompts.

        Raises:
            HeroError: it cannot.
        """
