"""What the host knows of a call before the vision tower runs: made once, from config, sizes and token ids alone."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from herovlm import registry
from herovlm.budget import Auto, fits_image
from herovlm.errors import BudgetError, InputsError, UnsupportedError
from herovlm.families import smaller
from herovlm.geometry import Geometry
from herovlm.methods.full import Full
from herovlm.ops.fit import enough
from herovlm.prompt import positions
from herovlm.prompt.positions import Prompt, Stay
from herovlm.seams import refuse

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from herovlm.families.base import Family
    from herovlm.request import Request


@dataclass(frozen=True, eq=False)
class Plan:
    """Prompts and the geometry of their images, in prompt order; host only."""

    inputs: Mapping[str, Any]  # as they came; what the family reads on the host is there
    prompt: Prompt
    images: tuple[Geometry, ...]
    rows: tuple[int, ...]  # the prompt that each image belongs to

    @cached_property
    def places(self) -> tuple[Tensor, ...]:
        """The columns of each image's placeholders: (positions,) int64 each."""
        return torch.split(self.prompt.placeholders[:, 1], [image.positions for image in self.images])

    def take(self, rows: Sequence[int]) -> tuple[Plan, list[int]]:
        """Plan for some of the prompts, any of them more than once; and which of the images theirs are."""
        order, prompt = list(rows), self.prompt
        taken = [(new, i) for new, row in enumerate(order) for i, own in enumerate(self.rows) if own == row]
        some = replace(prompt, ids=prompt.ids[order], mask=prompt.mask[order])
        device = self.inputs["input_ids"].device
        tokens = {"input_ids": some.ids.to(device), "attention_mask": some.mask.to(device)}
        given = {name: self.inputs.get(name) for name in positions.KINDS}
        tokens |= {name: kinds[order] for name, kinds in given.items() if kinds is not None}
        images = [i for _, i in taken]
        return Plan(tokens, some, tuple(self.images[i] for i in images), tuple(new for new, _ in taken)), images

    @cached_property
    def alike(self) -> bool:
        """Whether all columns of an image are the same to the prompt: side by side, and none of them hidden."""
        return all(
            int(place[-1] - place[0]) + 1 == len(place) and bool((self.prompt.mask[row, place] != 0).all())
            for row, place in zip(self.rows, self.places, strict=True)
        )

    def short_columns(self, counts: Sequence[int]) -> Stay:
        """Find columns that are left when each image keeps so many positions, whichever: all placeholders are alike.

        More than there were (newlines that the untouched model does not send) repeat the last one.
        """
        visual = [
            place[torch.arange(count, device=place.device).clamp(max=len(place) - 1)]
            for place, count in zip(self.places, counts, strict=True)
        ]
        return positions.columns(self.prompt, self.rows, visual)


def plan_of(family: Family, model: PreTrainedModel, inputs: Mapping[str, Any]) -> Plan:
    """Plan a call: check its inputs, and find where every image stands.

    Raises:
        InputsError: inputs that do not fit the model or each other.
        UnsupportedError: inputs that cannot be shortened rightly.
    """
    checked = refuse.inputs(inputs, family.media)
    pictured = any(checked.get(name) is not None for name in family.media)
    if pictured:
        checked = family.checked(model, checked)
    prompt = positions.prompt_of(checked, model.config)
    images = family.layouts(model, checked, prompt) if pictured else []
    rows = positions.rows_of(prompt, [image.positions for image in images])
    return Plan(checked, prompt, tuple(images), rows)


def token_count(config: Any, size: Sequence[int], request: Request, image: int = 0) -> int:
    """Count the visual positions of a picture that reach the language model: from config and size, without weights.

    An engine asks this before its encoder runs; `herovlm.drop` sends exactly so many, if it answers at all: with
    `narrow` it refuses budgets that are larger than what goes through the tower.

    Args:
        config: the model's config.
        size: height and width of the picture in pixels, as its processor is given it.
        request: what will be asked; only exact methods with a stated budget have a number beforehand.
        image: which image of the call it is, where the budget has one value an image.

    Raises:
        ModelError: the family is not supported.
        InputsError: the size is not that of a picture.
        BudgetError: keep="auto" looks at the picture first; or the budget is too small for the smallest picture, or
            for the newlines that were asked for, or has no value for this image.
        MethodError: newlines="canvas", which stand outside any budget.
        UnsupportedError: the method rounds for itself, or something goes on behind it.
    """
    size = _size(size)
    fits_image(request.budget, image)
    family = registry.family(SimpleNamespace(config=config))
    shell = family.shell(config)
    (whole,) = family.geometry(shell, [size])
    if request.strategy is not None:
        raise UnsupportedError(f"{request.strategy} may read several prompts a picture; ask about {request.method}")
    if request.all or isinstance(request.method, Full):
        return whole.positions
    if isinstance(request.budget, Auto):
        raise BudgetError(f"keep='{request.budget}' depends on what is in the picture; give a share or a number")
    if request.inside is not None or not (request.method.exact or request.method.smaller):
        what = request.method if request.inside is None else request.inside
        raise UnsupportedError(f"how much {what} keeps is known only when it has been read; take an exact method")
    smaller.offered(family, request.method)
    budget = min(request.budget.of(whole.positions, image), whole.positions)
    if budget == whole.positions:
        return budget
    if not request.method.smaller:
        enough(budget, whole.grid, whole.counts, request.newlines or request.method.newlines or "none")
        return budget
    prefer: smaller.Prefer = getattr(request.method, "prefer", "positions")
    return smaller.largest(family, shell, family.filled(shell, size), len(whole.valid), budget, prefer).positions


def _size(given: Any) -> tuple[int, int]:
    """Read the size of one picture: height and width in pixels."""
    plain = given.tolist() if hasattr(given, "tolist") else given
    pair = [operator.index(one) for one in plain if _is_whole(one)] if isinstance(plain, list | tuple) else []
    if len(pair) != 2 or len(plain) != 2 or min(pair) < 1:
        raise InputsError(
            f"size={reprlib.repr(given)} is not that of a picture; give (height, width) in pixels, such as (336, 672)"
        )
    return pair[0], pair[1]


def _is_whole(one: Any) -> bool:
    return hasattr(one, "__index__") and not isinstance(one, bool | Tensor)
