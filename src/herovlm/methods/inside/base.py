"""The contract of a method inside the language model: before which layers it cuts, what it reads there, what stays."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from herovlm.errors import BudgetError, MethodError
from herovlm.methods.base import Method
from herovlm.methods.fields import Described
from herovlm.types import Cut, NeedsInside, SeenInside


@dataclass(frozen=True, kw_only=True)
class Inside(Described):
    """A way to prune between layers while the prompt is read; subclasses are frozen dataclasses, one paper a file.

    A pure function of `SeenInside`, as methods before the LLM are of `Seen`.  Callers use `needs(depth)`,
    `plan(positions, depth, mean)` and `cut(seen)`; authors write `needs`, `counts` and `choose`.  How many positions
    stay depends on their number alone, unless `exact` says otherwise.
    """

    def __post_init__(self) -> None:
        """Check the fields; a share is written with a point, so that nobody takes 1 for one position."""
        super().__post_init__()
        keep = getattr(self, "keep", None)
        if isinstance(keep, int):
            number = f", or tokens={keep} for that many positions" if hasattr(self, "tokens") else ""
            raise MethodError(f"{self.name}(keep={keep}): expected a share such as 0.5, all of them 1.0{number}")

    @property
    def exact(self) -> bool:
        """Whether the positions that stay are those of `plan`, whatever the picture shows."""
        return True

    @property
    def settled(self) -> bool:
        """Whether its own fields say how many positions stay; if not, a mean over the layers can."""
        return getattr(self, "keep", 1) is not None

    @abstractmethod
    def needs(self, depth: int) -> dict[int, NeedsInside]:
        """Return the layers of `depth` before which it cuts (ascending), and what it wants to see there."""

    @abstractmethod
    def counts(self, positions: int, depth: int) -> tuple[int, ...]:
        """Return how many of an image's `positions` stay from each of these layers on, by the method's own fields."""

    @abstractmethod
    def choose(self, seen: SeenInside) -> Cut:
        """Choose `seen.granted` positions of each image; nothing that `needs` did not name is there to be read."""

    def plan(self, positions: int, depth: int, mean: float | None = None) -> dict[int, int]:
        """Return how many of an image's positions stay from which layer on.

        Args:
            positions: Positions of the image that reach the LLM.
            depth: Layers of the language model.
            mean: Positions a layer on average; the method's own `keep` is found from it, if that is None.

        Raises:
            BudgetError: the mean cannot be met; says the smallest that can.
            MethodError: layers that do not exist, or a method that has no `keep` to find.
        """
        if mean is not None and not self.exact:
            raise BudgetError(
                f"{self} alone cannot keep to a number, the picture decides; say what reaches the language model, "
                f"such as 'hero + {self.name}' or 'full + {self.name}'"
            )
        layers, anyone = tuple(self.needs(depth)), cast("Any", self)
        if mean is None or self.settled:
            return dict(zip(layers, self.counts(positions, depth), strict=True))

        def spent(share: float) -> float:
            counts: list[int] = [positions, *replace(anyone, keep=share).counts(positions, depth)]
            return sum(n * (b - a) for n, a, b in zip(counts, (0, *layers), (*layers, depth), strict=True)) / depth

        low, high = 1e-9, 1.0
        if spent(low) > mean:
            raise BudgetError(
                f"{self} cannot keep {mean:,.0f} of {positions:,} visual positions a layer on average: the layers "
                f"before its cuts read them all; use keep >= {-(-spent(low) * 10_000 // positions) / 10_000:.4f}, or "
                f"drop before the LLM as well: 'hero + {self.name}'"
            )
        while high - low > 1e-9:
            middle = (low + high) / 2
            low, high = (middle, high) if spent(middle) <= mean else (low, middle)
        return cast("Inside", replace(anyone, keep=high if spent(high) <= mean else low)).plan(positions, depth)

    def cut(self, seen: SeenInside) -> Cut:
        """Choose what goes on from this layer.

        Raises:
            MethodError: something that the method needs was not recorded.
        """
        needs = self.needs(seen.depth)[seen.layer]
        for name in (f.name for f in fields(needs)):
            if getattr(needs, name) and getattr(seen, name) is None:
                hint = "; the method before has to cluster, as in 'vitcop + vitcop_llm'" if name == "groups" else ""
                raise MethodError(f"{self.name} reads {name!r} before layer {seen.layer}, which is missing{hint}")
        return self.choose(seen)


@dataclass(frozen=True)
class Chain:
    """A method before the LLM (None: everything reaches it), and what goes on behind a plus; its text is its spec."""

    before: Method | None
    then: Described  # an `Inside`, or a `herovlm.strategy.Strategy`

    def __str__(self) -> str:
        """Give the spec that `herovlm.spec.parse` turns into an equal object."""
        return f"{self.then}" if self.before is None else f"{self.before} + {self.then}"
