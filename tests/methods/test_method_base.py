from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from grids import make_seen

from herovlm.errors import BudgetError, MethodError
from herovlm.methods.base import Method, resolve
from herovlm.types import Kept, Needs, Newlines, Seen


@dataclass(frozen=True, kw_only=True)
class Nothing(Method):
    """Keeps nothing, and says what it was told."""

    rate: float = 0.5
    blocks: tuple[int, ...] = (1,)
    kind: Literal["a", "b"] | None = None
    loud: bool = False

    name = "nothing"
    paper = "none"
    fidelity = "baseline"

    def needs(self, depth: int) -> Needs:
        return Needs()

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        if not self.loud:
            return Kept(torch.zeros_like(seen.valid), seen.grid.sent)
        why = {"budget": torch.tensor(budget), "share": torch.tensor(share), "all": torch.tensor(newlines == "all")}
        return Kept(seen.valid, seen.grid.sent, why=why)


@pytest.mark.parametrize(
    ("layers", "depth", "expected"),
    [
        ((0, 5, -1), 24, (0, 5, 23)),
        ((0.0, 0.5, 1.0), 5, (0, 2, 4)),
        ((0.95,), 24, (22,)),
        ((1, 1.0, -1), 2, (1,)),  # 1 is block 1, 1.0 the last block; the same block once
        ((0.3, 1.0), 1, (0,)),
    ],
)
def test_layers_are_blocks_or_depths(layers: tuple[float, ...], depth: int, expected: tuple[int, ...]) -> None:
    assert resolve(layers, depth) == expected


@pytest.mark.parametrize("layer", [24, -25, 1.01, -0.2])
def test_a_layer_that_does_not_exist_is_refused(layer: float) -> None:
    with pytest.raises(MethodError, match=r"0\.\.23"):
        resolve((layer,), 24)


def test_a_tower_of_unknown_depth_is_refused() -> None:
    with pytest.raises(MethodError, match=r"Seen\.depth"):
        resolve((0.5,), 0)


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("rate", "x", "expected a number"),
        ("rate", True, "expected a number"),
        ("rate", float("inf"), "expected a number"),
        ("blocks", (1.5,), "each a whole number"),
        ("blocks", 1, "each a whole number"),
        ("blocks", (), "each a whole number"),
        ("kind", "c", "'a' or 'b' or None"),
        ("loud", 1, "True or False"),
        ("newlines", "some", "'touched'"),
    ],
)
def test_types_are_checked_from_the_annotations(field: str, value: object, hint: str) -> None:
    with pytest.raises(MethodError, match=hint):
        Nothing(**{field: value})


def test_the_spec_names_only_what_was_changed() -> None:
    assert str(Nothing()) == "nothing"
    assert str(Nothing(rate=1, kind="a", blocks=(2, 3))) == "nothing(rate=1, blocks=(2, 3), kind='a')"


def test_a_method_that_keeps_no_patch_is_an_error_and_never_an_empty_picture() -> None:
    with pytest.raises(BudgetError, match=r"keeps not one patch of 45 at keep=0\.1"):
        Nothing().keep(make_seen(2, 2, 3), 5, share=0.1)


def test_choose_is_told_the_share_and_the_rule() -> None:
    seen = make_seen(2, 2, 3)
    told = Nothing(loud=True, newlines="all").keep(seen, 17, share=0.35).why
    assert (int(told["budget"]), float(told["share"]), bool(told["all"])) == (17, pytest.approx(0.35), True)
    told = Nothing(loud=True, newlines="all").keep(seen, 17, "none").why
    assert (float(told["share"]), bool(told["all"])) == (pytest.approx(17 / seen.positions), False)
