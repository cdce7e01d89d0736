"""One prompt with one picture, the best square of HERO's weights in it, and a look at what was cut out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from transformers import AutoProcessor

from herovlm import registry
from herovlm.budget import Budget
from herovlm.errors import InputsError, UnsupportedError
from herovlm.families import smaller
from herovlm.methods.base import resolve
from herovlm.methods.hero import Hero
from herovlm.ops import region
from herovlm.ops.hero import two_stages
from herovlm.ops.region import Box
from herovlm.strategies import crops, turns
from herovlm.strategies.turns import Look
from herovlm.types import Seen
from herovlm.view import Choice, see

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from herovlm.request import Request


@dataclass(frozen=True, eq=False)
class Shown:
    """One prompt, and the one picture in it."""

    choice: Choice
    row: int
    image: int  # which of the images of the call
    question: str
    picture: Image.Image  # as it came, or as the inputs have it

    @classmethod
    def of(cls, choice: Choice, row: int, processor: Any) -> Shown:
        """Find the picture and the question of a prompt.

        Raises:
            UnsupportedError: it has no picture, or several.
            InputsError: `pictures` are not those of the call.
        """
        view, request = choice.view, choice.request
        images = [image for image, own in enumerate(view.plan.rows) if own == row]
        if len(images) != 1:
            raise UnsupportedError(f"chain_of_spot looks at a part of one picture, and a prompt has {len(images)}")
        image = images[0]
        if request.pictures is not None:
            if len(request.pictures) != len(view.plan.images):
                raise InputsError(f"{len(request.pictures)} pictures= for {len(view.plan.images)} images of the call")
            picture = request.pictures[image].convert("RGB")
        else:
            pixels = view.family.pictures(view.model, view.looked_at.inputs)[view.pictures[image]]
            picture = smaller.picture(pixels, processor.image_processor)
        asked = view.questions(request.question, processor)[row]
        return cls(choice, row, image, asked, picture)

    @property
    def look(self) -> Look:
        """What was seen and kept of the picture."""
        return Look.of(self.choice, self.image)

    def best(self, processor: Any, least: int) -> Box:
        """Find the best square of HERO's weights, a multiple of so many pixels wide: shares of the picture's square."""
        view = self.choice.view
        (seen,) = [view.seen(Hero().needs(view.depth), self.question, processor)[self.image]]
        heat = weights(seen)
        (height, width), side = heat.shape, self.picture.width / heat.shape[1]  # pixels of a cell
        row, column, size = region.densest(heat, round(least / side))
        shares = (column / width, row / height, (column + size) / width, (row + size) / height)
        return crops.within(self.picture.size, shares)


def again(shown: Sequence[Shown], keep: Budget) -> list[Look]:
    """Take other parts of what was seen of some pictures, as much as `keep` says, by the method that chose before."""
    chosen = {id(one.choice): one.choice for one in shown}
    anew = {key: old.view.choose(replace(old.request, budget=keep)) for key, old in chosen.items()}
    return [Look.of(anew[id(one.choice)], one.image) for one in shown]


def weights(seen: Seen) -> torch.Tensor:
    """Lay HERO's weights of patches out over the picture: (H, W), sum 1.

    A patch has the weight of its tile times its share of the tile's scores; without local tiles, that of the overview.
    """
    hero, grid = Hero(), seen.grid
    high, low = (resolve(layers, seen.depth) for layers in (hero.high_layers, hero.low_layers))
    scores = two_stages(seen, high, low) * seen.valid
    shares = scores / scores.sum(1, keepdim=True).clamp(min=1e-12)
    if not len(grid.local(shares)):
        rows, columns = seen.counts.overview
        heat = shares[0].view(grid.side, grid.side)
    else:
        rows, columns = seen.counts.rows, seen.counts.columns
        heat = grid.canvas(grid.local(shares * hero.weigh(seen, scores)["weight"][:, None]))
    heat = heat[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return heat / heat.sum().clamp(min=1e-12)


def processor_of(model: PreTrainedModel, given: Any) -> Any:
    """Return a processor that writes prompts and makes pictures: the one given, else that beside the weights.

    Raises:
        InputsError: there is none.
    """
    if given is None and model.name_or_path:
        try:
            given = AutoProcessor.from_pretrained(model.name_or_path, local_files_only=True)
        except (OSError, ValueError, ImportError):
            given = None
    if not hasattr(given, "tokenizer") or not hasattr(given, "image_processor"):
        raise InputsError("chain_of_spot writes prompts and makes pictures: pass the model's own processor=")
    return given


@torch.no_grad()
def look(model: PreTrainedModel, processor: Any, pictures: Sequence[Image.Image], request: Request) -> tuple[Look, ...]:
    """Look at pictures as a request says, whose questions are given, one a picture."""
    given = processor.image_processor(images=list(pictures), return_tensors="pt").to(model.device, model.dtype)
    layouts = registry.family(model).layouts(model, given)
    ids, mask = turns.padded(model, [[model.config.image_token_id] * layout.positions for layout in layouts])
    choice = see(model, {"input_ids": ids, "attention_mask": mask, **given}, request).choose(request)
    return tuple(Look.of(choice, image) for image in range(len(pictures)))
