"""Where what is needed of a vision tower meets what it offers: one place for every method, strategy and family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from herovlm import registry
from herovlm.errors import UnsupportedError
from herovlm.families.base import Family
from herovlm.strategy import Strategy
from herovlm.types import Needs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from herovlm.methods.base import Method

DEPTH = 24  # of some tower; which signals a method needs does not hang on it


def settle(family: Family, model: PreTrainedModel, needs: Needs, what: Method | Strategy) -> None:
    """Check that a family offers what is needed of its tower: whatever is asked for.

    Raises:
        UnsupportedError: it does not; names what is missing, what to write instead, and the methods that work there.
    """
    offers = family.offers(model)
    missing = needs.signals - offers
    if getattr(what, "whole", False) and not family.overviews:
        raise UnsupportedError(
            f"{what} is made of the overview, and {family.name} sees a picture without one; methods that work there: "
            f"{', '.join(working(family, offers))}"
        )
    if missing:
        tower = family.sees_through(model)
        lacks = [why for name, why in tower.lacks(model.config.vision_config).items() if name in missing]
        found = [] if isinstance(what, Strategy) else [f"'{one}'" for one in instead(what, missing, offers)]
        write = f"write {' or '.join(found)}; " if found else ""
        raise UnsupportedError(
            f"this {family.name} sees through {tower.kind}, which offers "
            f"{', '.join(sorted(offers)) or 'features alone'}; {'; '.join([*lacks, ''])}{what} needs "
            f"{', '.join(sorted(missing))}; {write}methods that work there: {', '.join(working(family, offers))}"
        )


def instead(what: Method, missing: frozenset[str], offers: frozenset[str]) -> list[str]:
    """List specs to write where some of what a method needs is missing; the names of choices need no quotes."""
    return [str(one).replace("'", "") for one in what.without(missing) if one.needs(DEPTH).signals <= offers]


def working(family: Family, offers: frozenset[str]) -> list[str]:
    """List the methods that work, as they are by default, where a family offers some signals."""
    return [name for name, spec in written(family, offers).items() if name == spec]


def written(family: Family, offers: frozenset[str]) -> dict[str, str]:
    """Return how each method that works where a family offers some signals is written there: by its name, or more."""
    found = {}
    for name in registry.methods():
        method = registry.method(name)()
        missing = method.needs(DEPTH).signals - offers
        ways = instead(method, missing, offers) if missing else [name]
        if ways and (family.shrinks or not method.smaller) and (family.overviews or not method.whole):
            found[name] = ways[0]
    return found
