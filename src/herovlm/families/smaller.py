"""Look at a smaller picture: of all that send no more positions than a budget, the one that sends most.

The picture is put together from the pixels of the inputs, as large as they have it, shrunk, and processed anew.  Every
grid of tiles that the processor makes of it (the one it made, those of fewer tiles, one tile alone) is tried with tiles
of every side, from the tower's own down to one patch; for smaller tiles the tower interpolates its position encodings.
What each would send is counted by the model's own packer, from sizes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, PreTrainedModel

from herovlm.errors import BudgetError, InputsError, UnsupportedError
from herovlm.families import packing
from herovlm.geometry import Geometry
from herovlm.seams import offload
from herovlm.towers import recording, shortcut
from herovlm.types import Needs, Seen

if TYPE_CHECKING:
    from herovlm.families.base import Family

MOST = 256  # sizes of pictures, the versions of which are remembered


Prefer = Literal["positions", "tiles"]


class Version(NamedTuple):
    """A smaller version of a picture."""

    positions: int  # that the model sends, newlines included
    tiles: int
    side: int  # patches a side of a tile
    size: tuple[int, int] | None  # height and width of the picture; None is one tile, of the whole picture


def offered(family: Family, method: Any) -> None:
    """Check that pictures of a family can be made smaller, if that is what a method does.

    Raises:
        UnsupportedError: they cannot.
    """
    if method.smaller and not family.shrinks:
        raise UnsupportedError(
            f"{method} makes pictures smaller, which is not known for {family.name}; give its processor a smaller "
            "picture, or take a method that drops"
        )


@torch.no_grad()
def see(
    family: Family,
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    layouts: Sequence[Geometry],
    budget: Callable[[int, Seen], int],
    processor: Any,
    prefer: Prefer = "positions",
    needs: Needs | None = None,
) -> tuple[Seen, ...]:
    """Look at smaller pictures: one `Seen` an image, in prompt order, that sends at most its budget.

    Args:
        family: the model's.
        model: the model.
        inputs: what its processor returned, checked; image_sizes on the host.
        layouts: the geometry of each image, in prompt order.
        budget: the most positions of an image, given its number and its geometry as it came.
        processor: its processor, or its image processor; None takes the one beside the weights.
        prefer: as for `largest`.
        needs: what to record of hidden states and layers; nothing else can be.

    Raises:
        BudgetError: less than the smallest picture sends.
        InputsError: there is no image processor, or the inputs do not fit.
    """
    wanted = Needs() if needs is None else needs
    tiles = torch.split(family.tiles(model, inputs), [len(layout.valid) for layout in layouts])
    images, pictures = image_processor(processor, model), family.pictures(model, inputs)
    found: dict[int, Seen] = {}
    sides: dict[int, list[tuple[int, Version]]] = {}  # the tower runs once for all tiles of a side
    for image, (layout, pixels) in enumerate(zip(layouts, pictures, strict=True)):
        most = budget(image, Seen(layout.grid, layout.valid, counted=layout.counts))
        if most < layout.positions:
            version = largest(family, model, (pixels.shape[-2], pixels.shape[-1]), len(layout.valid), most, prefer)
            sides.setdefault(version.side, []).append((image, version))
    for image, layout in enumerate(layouts):
        if all(image != one for some in sides.values() for one, _ in some):
            sizes = inputs.get("image_sizes")
            own = {"pixel_values": tiles[image], "image_sizes": None if sizes is None else sizes[image : image + 1]}
            (found[image],) = family.see(model, {**inputs, **own}, [layout], wanted).seen
    for side, some in sides.items():
        network = family.with_tiles(model, side)
        made = [_made(family, network, picture(pictures[image], images), version, images) for image, version in some]
        seen = _look(family, model, inputs, made, wanted)
        found |= {
            image: replace(one, resized=layouts[image].positions) for (image, _), one in zip(some, seen, strict=True)
        }
    return tuple(found[image] for image in range(len(layouts)))


def image_processor(processor: Any, model: PreTrainedModel) -> Any:
    """Return the image processor of a processor (or itself); without one, that of the model's own folder.

    Raises:
        InputsError: there is none.
    """
    images = getattr(processor, "image_processor", processor)
    if processor is None and model.name_or_path:
        with _lock:
            if model not in _found:
                try:
                    _found[model] = AutoImageProcessor.from_pretrained(model.name_or_path, local_files_only=True)
                except (OSError, ValueError, ImportError):
                    _found[model] = None
            images = _found[model]
    if not hasattr(images, "image_mean"):
        raise InputsError("this method makes pictures smaller with the model's own image processor: pass processor=")
    return images


_lock = Lock()
_found: WeakKeyDictionary[PreTrainedModel, Any] = WeakKeyDictionary()


def largest(
    family: Family,
    model: PreTrainedModel,
    size: tuple[int, int],
    tiles: int,
    budget: int,
    prefer: Prefer = "positions",
) -> Version:
    """Choose the version of a picture that sends most within a budget; of equals, the one of fewer, larger tiles.

    Args:
        family: the model's.
        model: the model.
        size: height and width of the picture, as it fills the canvas that the model made of it.
        tiles: how many tiles it has, the thumbnail included; no version has more.
        budget: the most positions.
        prefer: "positions" takes the one that sends most; "tiles" the largest tiles first.

    Raises:
        BudgetError: less than the smallest picture sends.
    """
    every = _versions(family, model, size)
    within = [version for version in every if version.tiles <= tiles and version.positions <= budget]
    if not within:
        raise BudgetError(
            f"a budget of {budget:,} is less than the smallest picture sends, {min(v.positions for v in every)}; keep "
            "more, or take a method that drops"
        )
    if prefer == "tiles":
        return max(within, key=lambda version: (version.side, version.positions))
    return max(within, key=lambda version: (version.positions, -version.tiles))


def _versions(family: Family, model: PreTrainedModel, size: tuple[int, int]) -> list[Version]:
    """List every version of a picture: each grid of tiles, and one tile alone, with tiles of each side."""
    vision = model.config.vision_config
    shape = (vision.image_size, vision.patch_size, str(getattr(model.config, "image_grid_pinpoints", None)))
    key = (type(family), size, shape)
    with _lock:
        if key in _counted:
            return _counted[key]
    found: list[Version] = []
    newlines = family.alone_newlines
    for side in range(1, family.side(model) + 1):
        found.append(Version(side**2 + newlines, 1, side, None))
        fits = family.fits(family.with_tiles(model, side), size)
        found += [Version(positions, tiles, side, one) for one, (tiles, positions) in fits.items()]
    with _lock:
        if len(_counted) >= MOST:
            _counted.clear()
        _counted[key] = found
    return found


_counted: dict[Any, list[Version]] = {}


def _made(
    family: Family, network: PreTrainedModel, picture: Image.Image, version: Version, images: Any
) -> tuple[Tensor, Geometry]:
    """Make the tiles (T, 3, h, w) of a version, as the processor makes those of a network with such tiles."""
    side = network.config.vision_config.image_size  # pixels
    square, canvases = {"height": side, "width": side}, [[side, side]]
    if version.size is not None:
        canvases = network.config.image_grid_pinpoints
        picture = picture.resize(version.size[::-1], images.resample)
    how: dict[str, Any] = {"size": {"shortest_edge": side} if images.size.get("shortest_edge") else square}
    how |= {"crop_size": square} if getattr(images, "crop_size", None) else {}
    how |= {"image_grid_pinpoints": canvases} if getattr(images, "image_grid_pinpoints", None) else {}
    # as an array whose channels are last: of a picture three pixels high nobody else would know
    given = images(images=[np.array(picture)], input_data_format="channels_last", return_tensors="pt", **how)
    tiles: Tensor = given["pixel_values"].flatten(0, -4)[: version.tiles]
    if version.size is None:
        return tiles, packing.alone(version.side, newline=bool(family.alone_newlines))
    (layout,) = family.geometry(network, given["image_sizes"].tolist())
    return tiles, layout


def _look(
    family: Family,
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    made: Sequence[tuple[Tensor, Geometry]],
    needs: Needs,
) -> list[Seen]:
    """Look at pictures whose tiles are of one size: one `Seen` a picture."""
    tower, projector = family.tower(model), family.projector(model)
    blocks, newline = recording.attention_blocks(tower), family.newline(model)
    tiles = torch.cat([own for own, _ in made]).to(offload.home(tower), inputs["pixel_values"].dtype)
    states = tower(tiles, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states
    layers = shortcut.feature_blocks(model, inputs, len(blocks))
    hidden = torch.cat([states[layer][:, 1:] for layer in layers], -1)
    groups = [torch.stack([states[layer] for layer in group]).mean(0) for group in needs.layers]
    recorded = {"hidden": hidden if needs.hidden else None, "layers": torch.stack(groups, 1) if groups else None}
    features, counts = projector(hidden), [len(one) for one, _ in made]  # (sum of T, N, D)
    beside = {name: torch.split(x, counts) for name, x in recorded.items() if x is not None}
    seen = []
    for i, (own, (_, geometry)) in enumerate(zip(torch.split(features, counts), made, strict=True)):
        grid, valid, counted, *_ = geometry.on(own.device)
        own = own.masked_fill(~valid[..., None], 0)
        end = None if newline is None else newline.detach()
        common: dict[str, Any] = {
            "newline": end,
            "depth": len(blocks),
            "heads": blocks[0].num_heads,
            "counted": counted,
        }
        common |= {name: parts[i] for name, parts in beside.items()}
        seen.append(Seen(grid, valid, own, **common))
    return seen


def picture(pixels: Tensor, images: Any) -> Image.Image:
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
