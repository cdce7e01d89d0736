"""What `drop` and `dropping` were asked for: read and checked once, before any work is done."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, cast

from herovlm import auto, budget, registry, spec
from herovlm.budget import Auto, Budget
from herovlm.errors import UnsupportedError, UsageError
from herovlm.methods.base import Method, resolve
from herovlm.methods.full import Full
from herovlm.methods.inside.base import Chain, Inside
from herovlm.strategy import Strategy
from herovlm.types import Narrow, Needs, Newlines, Seen

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIDDLE = 0.5  # the depth of the tower behind which it is narrowed, where no block is named
AnyNarrow = float | tuple[float | int, float]
Positions = Literal["compact", "original"]
AnyMethod = str | Method | Inside | Strategy | Chain
AnyKeep = float | Sequence[float] | str | Budget
AnyTokens = int | Sequence[int]


@dataclass(frozen=True)
class Request:
    """What `drop` was asked for, checked."""

    method: Method  # before the language model
    inside: Inside | None  # in it
    alone: bool  # whether only the inside method was asked for
    budget: Budget
    question: str | Sequence[str] | None
    processor: Any
    positions: Positions | None  # None: the family's own, until `on` has looked it up
    newlines: Newlines | None
    narrow: tuple[float | int, float] | None = None  # block, share
    strategy: Strategy | None = None  # what the answer goes through besides
    pictures: Sequence[Any] | None = None  # as they came, for strategies that look at a part of one again

    @classmethod
    def of(
        cls,
        method: AnyMethod = "hero",
        keep: Any = None,
        tokens: Any = None,
        question: Any = None,
        processor: Any = None,
        positions: Any = None,
        newlines: Any = None,
        narrow: Any = None,
        pictures: Any = None,
    ) -> Request:
        """Read and check what `herovlm.drop` takes, before any work is done; the arguments are those of `drop`.

        Raises:
            HeroError: one of them cannot be, or two do not go together.
        """
        places, rows = positions, newlines  # of any type, until they are checked
        if not isinstance(places, str | None) or places not in (None, "compact", "original"):
            raise UsageError(f"positions={reprlib.repr(positions)} is unknown; use 'compact' or 'original'")
        if not isinstance(rows, str | None) or rows not in (None, "touched", "all", "none", "canvas"):
            raise UsageError(f"newlines={reprlib.repr(newlines)} is unknown; use 'touched', 'all', 'none' or 'canvas'")
        _check_question(question, processor)
        _check_pictures(pictures)
        amount, asked, cut = budget.read(keep, tokens), spec.parse(method), narrow_of(narrow)
        if isinstance(amount, Auto) and cut is not None:
            raise UnsupportedError(f"keep='{amount}' was measured without narrow, which loses more; leave one out")
        first = asked if isinstance(asked, Method) else asked.before
        if first is not None and first.smaller:
            _check_smaller(first, positions, amount)
        if isinstance(asked, Method):
            return cls(asked, None, False, amount, question, processor, positions, newlines, cut)
        if isinstance(asked.then, Strategy):
            before = asked.before or Full()
            rest = (processor, positions, newlines, cut, asked.then, pictures)
            return cls(before, None, False, amount, question, *rest)
        inside = cast("Inside", asked.then)
        if positions == "original" and getattr(inside, "positions", "true") != "true":
            raise UnsupportedError(f"{inside} renumbers positions, positions='original' keeps them; leave one out")
        if asked.before is None and cut is not None:
            raise UnsupportedError(f"narrow with {inside} alone, which is sent everything; put a method before it")
        if asked.before is None and isinstance(amount, Auto):
            raise UnsupportedError(f"keep='{amount}' with {inside} alone, which is sent everything; give a number")
        before = Full() if asked.before is None else asked.before
        return cls(before, inside, asked.before is None, amount, question, processor, positions, newlines, cut)

    @property
    def all(self) -> bool:
        """Whether everything is kept by request: the untouched model ("full + fastv" asks for something else)."""
        goes_on = self.inside is not None and not self.alone and isinstance(self.method, Full)
        return self.budget.whole and not goes_on

    def needs(self, depth: int) -> Needs:
        """Return what to record of a vision tower with `depth` blocks."""
        needs = Needs() if self.all else self.method.needs(depth)
        return replace(needs, hidden=True) if isinstance(self.budget, Auto) else needs

    def on(self, model: PreTrainedModel) -> Request:
        """Look up what depends on the model: its positions, and the calibration that keep="auto" goes by.

        Raises:
            BudgetError: there is none for this model and method.
            UnsupportedError: its language model cannot read such positions.
        """
        family = registry.family(model)
        places = self.positions or family.positions[0]
        if places not in family.positions:
            raise UnsupportedError(
                f"positions={places!r} with {family.name}: {family.numbered}; use positions={family.positions[0]!r}"
            )
        here = self if places == self.positions else replace(self, positions=cast("Positions", places))
        if not isinstance(self.budget, Auto):
            return here
        return replace(here, budget=auto.calibrated(self.budget, model, self.asked))

    @property
    def asked(self) -> str:
        """The method with what goes on behind it, as a spec."""
        then = self.inside or self.strategy
        return str(self.method if then is None else Chain(self.method, then))

    def ends_here(self, what: str) -> None:
        """Check that nothing goes on behind the method, for who would leave it out.

        Raises:
            UnsupportedError: something does.
        """
        then = self.inside or self.strategy
        if then is not None:
            asked = str(then) if self.alone else self.asked
            use = f"use 'with herovlm.dropping(model, method={asked!r}): model.generate(**inputs)'"
            raise UnsupportedError(f"{what} only shortens inputs, and {then.name!r} goes on behind them; {use}")

    def spend(self, image: int, seen: Seen) -> int:
        """Number of positions for an image of the call, counted from 0."""
        if isinstance(self.budget, Auto):
            return cast("auto.Calibrated", self.budget).spend(seen)
        return self.budget.of(seen.positions, image)

    def cut(self, depth: int) -> Narrow | None:
        """Return where the vision tower is narrowed, if at all: who keeps everything keeps it there too."""
        whole = self.all or isinstance(self.method, Full) or self.method.smaller
        if self.narrow is None or self.narrow[1] == 1 or whole:
            return None
        return Narrow(resolve(self.narrow[:1], depth)[0], self.narrow[1])


def _check_smaller(method: Method, positions: Any, amount: Budget) -> None:
    """Refuse what a smaller picture cannot have."""
    if positions == "original":
        raise UnsupportedError(
            f"{method} sends another picture, and the untouched prompt has no positions for it; use positions='compact'"
        )
    if isinstance(amount, Auto):
        raise UnsupportedError(f"keep='{amount}' looks at the picture before {method} has made it; give a share")


def _check_question(question: Any, processor: Any) -> None:
    """Refuse a question that is no text, and what cannot read one."""
    several = isinstance(question, list | tuple) and all(isinstance(one, str) for one in question)
    if not isinstance(question, str | None) and not several:
        raise UsageError(
            f"question={reprlib.repr(question)} is no text; give the user's words, or a list with one text a prompt"
        )
    reads = not isinstance(processor, bytes) and hasattr(getattr(processor, "tokenizer", processor), "decode")
    sees = hasattr(getattr(processor, "image_processor", processor), "preprocess")
    if processor is not None and not reads and not sees:
        raise UsageError(
            f"processor={reprlib.repr(processor)} reads neither prompts nor pictures; give the model's own processor"
        )


def _check_pictures(pictures: Any) -> None:
    """Refuse what is no list of pictures."""
    listed = isinstance(pictures, list | tuple) and all(hasattr(one, "convert") for one in pictures)
    if pictures is not None and not listed:
        raise UsageError(
            f"pictures={reprlib.repr(pictures)} is no list of PIL images; give those of the call, in prompt order"
        )


def narrow_of(narrow: Any) -> tuple[float | int, float] | None:
    """Read a share, or a block and a share.

    Raises:
        UsageError: it is neither.
    """
    if narrow is None:
        return None
    pair = narrow if isinstance(narrow, tuple | list) else (MIDDLE, narrow)
    if len(pair) != 2 or not all(isinstance(part, Real) and not isinstance(part, bool) for part in pair):
        raise UsageError(
            f"narrow={reprlib.repr(narrow)} is neither a share such as 0.5 nor (block, share) such as (0.4, 0.5)"
        )
    if not 0 < pair[1] <= 1 or not -math.inf < pair[0] < math.inf:
        raise UsageError(f"narrow={reprlib.repr(narrow)}: the share is not in (0, 1]; 1 lets all patches through")
    return int(pair[0]) if isinstance(pair[0], Integral) else float(pair[0]), float(pair[1])
