"""Look at a smaller picture: of all that send no more positions than a budget, the one that sends most.

The picture is put together from the pixels of the inputs, as large as they have it, shrunk, and processed anew.  Sizes
that the untouched model takes come first: fewer tiles.  Where none is small enough, one tile is sent: the thumbnail, or
a smaller one, for which the tower interpolates its position encodings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, PreTrainedModel

from herovlm.adapters import packing, shortcut, watch
from herovlm.errors import BudgetError, InputsError
from herovlm.types import Needs, Seen

if TYPE_CHECKING:
    from herovlm.adapters.base import Adapter

FEATURES = ("vision_feature_layer", "vision_feature_select_strategy")  # what inputs may say about the features


@torch.no_grad()
def see(
    adapter: Adapter,
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    budget: Callable[[int, Seen], int],
    processor: Any,
) -> tuple[Seen, ...]:
    """Look at smaller pictures: one `Seen` an image, in prompt order, that sends at most its budget.

    Args:
        adapter: the model's.
        model: the model.
        inputs: what its processor returned.
        budget: the most positions of an image, given its number and its geometry as it came.
        processor: its processor, or its image processor; None takes the one beside the weights.

    Raises:
        BudgetError: less than the smallest picture sends.
        InputsError: there is no image processor, or the inputs do not fit.
    """
    layouts, _ = adapter.prompts(model, inputs)
    tiles = torch.split(adapter.tiles(model, inputs), [len(layout.valid) for layout in layouts])
    images, found = image_processor(processor, model), []
    for image, (layout, pixels) in enumerate(zip(layouts, adapter.pictures(model, inputs), strict=True)):
        most = budget(image, Seen(layout.grid, layout.valid))
        if most >= layout.positions:
            sizes = {name: inputs[name][image : image + 1] for name in ("image_sizes",) if name in inputs}
            found.append(_as_it_is(adapter, model, inputs, {"pixel_values": tiles[image], **sizes}, layout.positions))
            continue
        small = _smaller(adapter, model, inputs, _picture(pixels, images), most, images)
        found.append(replace(small, resized=layout.positions))
    return tuple(found)


def image_processor(processor: Any, model: PreTrainedModel) -> Any:
    """Return the image processor of a processor (or itself); without one, that of the model's own folder.

    Raises:
        InputsError: there is none.
    """
    images = getattr(processor, "image_processor", processor)
    if processor is None and model.name_or_path:
        with _loading:
            if model not in _found:
                try:
                    _found[model] = AutoImageProcessor.from_pretrained(model.name_or_path, local_files_only=True)
                except (OSError, ValueError, ImportError):
                    _found[model] = None
            images = _found[model]
    if not hasattr(images, "image_mean"):
        raise InputsError("this method makes pictures smaller with the model's own image processor: pass processor=")
    return images


_loading = Lock()
_found: WeakKeyDictionary[PreTrainedModel, Any] = WeakKeyDictionary()


def _smaller(
    adapter: Adapter, model: PreTrainedModel, inputs: Mapping[str, Any], picture: Image.Image, budget: int, images: Any
) -> Seen:
    """Look at the largest version of a picture that sends at most `budget` positions."""
    fits = {size: n for size, n in adapter.smaller(model, (picture.height, picture.width)).items() if n <= budget}
    if fits:
        height, width = max(fits, key=lambda size: fits[size])
        given = images(images=[picture.resize((width, height), images.resample)], return_tensors="pt")
        given["pixel_values"] = given["pixel_values"].flatten(0, -4).to(inputs["pixel_values"])  # (T, 3, h, w)
        return _as_it_is(adapter, model, inputs, given, fits[height, width])
    newlines = 0 if adapter.newline(model) is None else 1
    if budget <= newlines:
        raise BudgetError(
            f"a budget of {budget:,} is less than the smallest picture sends, {1 + newlines}; keep more, or take a "
            "method that drops"
        )
    side = min(adapter.side(model), math.isqrt(budget - newlines))
    tile = _tile(picture, side * model.config.vision_config.patch_size, images)
    return _alone(adapter, model, inputs, tile.to(inputs["pixel_values"]), side)


def _as_it_is(
    adapter: Adapter, model: PreTrainedModel, inputs: Mapping[str, Any], given: Mapping[str, Any], positions: int
) -> Seen:
    """Look at one picture as the untouched model does."""
    settings = {name: inputs[name] for name in FEATURES if inputs.get(name) is not None}
    ids = torch.full((1, positions), model.config.image_token_id)
    (seen,) = adapter.see(model, {**settings, **given, "input_ids": ids}, Needs())
    return seen


def _alone(adapter: Adapter, model: PreTrainedModel, inputs: Mapping[str, Any], tile: Tensor, side: int) -> Seen:
    """Look at one tile (1, 3, h, w) of side x side patches, as the model does: what it packs of one is as it comes."""
    tower, blocks = adapter.tower(model), watch.attention_blocks(adapter.tower(model))
    tile = tile.to(next(tower.parameters()).device)
    states = tower(tile, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states
    layers = shortcut.feature_blocks(model, inputs, len(blocks))
    features = adapter.projector(model)(torch.cat([states[layer][:, 1:] for layer in layers], -1))  # (1, N, D)
    layout = packing.alone(side, newline=adapter.newline(model) is not None).to(features.device)
    return Seen(layout.grid, layout.valid, features, depth=len(blocks), heads=blocks[0].num_heads)


def _picture(pixels: Tensor, images: Any) -> Image.Image:
    """Undo what the processor did to the values of a picture (3, h, w)."""
    values = pixels.double().cpu()
    if images.do_normalize:
        mean, std = (
            torch.tensor(of, dtype=values.dtype)[:, None, None] for of in (images.image_mean, images.image_std)
        )
        values = values * std + mean
    if images.do_rescale:
        values = values / images.rescale_factor
    return Image.fromarray(values.round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


def _tile(picture: Image.Image, side: int, images: Any) -> Tensor:
    """Make one tile of the whole picture, (1, 3, side, side), as the processor makes the thumbnail or its only tile."""
    square = {"height": side, "width": side}
    how: dict[str, Any] = {"size": {"shortest_edge": side} if images.size.get("shortest_edge") else square}
    how |= {"crop_size": square} if getattr(images, "crop_size", None) else {}
    how |= {"image_grid_pinpoints": [[side, side]]} if getattr(images, "image_grid_pinpoints", None) else {}
    tiles: Tensor = images(images=[picture], return_tensors="pt", **how)["pixel_values"]
    return tiles.flatten(0, -4)[:1]
