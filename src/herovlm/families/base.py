"""What every model family shares: geometry, and one look of the vision tower that records what methods need."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from herovlm.errors import ModelError
from herovlm.geometry import Geometry
from herovlm.seams import offload
from herovlm.towers import recording, shortcut
from herovlm.towers.base import Tower
from herovlm.towers.clip import Clip
from herovlm.types import Narrow, Needs, Seen

VISION_INPUTS = ("pixel_values", "image_sizes", "vision_feature_layer", "vision_feature_select_strategy")


@dataclass(frozen=True, eq=False)
class Look:
    """What one run of the vision tower gave: of all images at once, and of each, before any question is asked."""

    seen: tuple[Seen, ...]  # one an image
    starts: tuple[int, ...]  # which of all tiles is the first of each image
    features: Tensor  # (sum of T, N, D) after the projector, zero where not valid
    states: Tensor  # (sum of T, 1 + N, C) behind the last block, not normalised, CLS first; or CLS alone
    hidden: Tensor | None  # (sum of T, N, C) before the projector, if wanted


class Family(ABC):
    """Looks through a model's own vision tower and hands its language model fewer positions.

    A family says how it packs; no model code is copied and no class is patched.  Families keep no state.
    """

    name: ClassVar[str]  # the name people know
    model_types: ClassVar[tuple[str, ...]]  # config.model_type
    alone_newlines: ClassVar[int] = 0  # that a picture of one tile ends in
    towers: ClassVar[tuple[type[Tower], ...]] = (Clip,)  # kinds of towers that it may see through

    def shell(self, config: Any) -> Any:
        """Return a stand-in for a model without weights, of which geometry can be asked."""
        return SimpleNamespace(config=config)

    @abstractmethod
    def geometry(self, model: PreTrainedModel, sizes: Sequence[Sequence[int]]) -> list[Geometry]:
        """Find where every visual position of pictures of some sizes (height, width) comes from; or of a shell."""

    @abstractmethod
    def layouts(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> list[Geometry]:
        """Find the geometry of every image of a call."""

    @abstractmethod
    def tiles(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> Tensor:
        """Return the pixels of all real tiles of all images: (sum of T, 3, height, width)."""

    def newline(self, model: PreTrainedModel) -> Tensor | None:
        """Return the embedding that closes a row, (D,), or None for families that have none."""
        return None

    def encoder(self, model: PreTrainedModel) -> Any:
        """Return what has `get_image_features`; a family that packs the features there leaves that out."""
        return model.base_model

    def pictures(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> list[Tensor]:
        """Put each image together from its pixels, as large as they have it: (3, height, width), without padding."""
        return list(self.tiles(model, inputs))

    def filled(self, model: PreTrainedModel, size: Sequence[int]) -> tuple[int, int]:
        """Return height and width of a picture of some size as its pixels show it: what `pictures` makes of it."""
        side = int(model.config.vision_config.image_size)
        return side, side

    def with_tiles(self, model: PreTrainedModel, side: int) -> PreTrainedModel:
        """Return the network as if its tiles had `side` patches a side: to ask for geometry, with the same weights."""
        network: Any = copy.copy(getattr(model, "base_model", model))
        network.config = copy.copy(model.config)
        network.config.vision_config = copy.copy(model.config.vision_config)
        network.config.vision_config.image_size = side * model.config.vision_config.patch_size
        return cast("PreTrainedModel", network)

    def fits(self, model: PreTrainedModel, size: tuple[int, int]) -> dict[tuple[int, int], tuple[int, int]]:
        """List the sizes (height, width) at which a picture fills several tiles; how many, and the positions sent."""
        return {}

    def sees_through(self, model: PreTrainedModel) -> Tower:
        """Return how its vision tower is read.

        Raises:
            ModelError: nobody knows how.
        """
        kind = model.config.vision_config.model_type
        known = {tower.kind: tower for tower in self.towers}
        if kind not in known:
            raise ModelError(f"this {self.name} sees through {kind!r}; herovlm can read {', '.join(known)} there")
        return known[kind]()

    def tower(self, model: PreTrainedModel) -> nn.Module:
        """Return the vision tower.

        Raises:
            ModelError: there is none, or none that can be read.
        """
        self.sees_through(model)
        tower = getattr(model.base_model, "vision_tower", None)
        if not isinstance(tower, nn.Module):
            raise ModelError(f"{type(model).__name__} has no vision tower")
        return tower

    def depth(self, model: PreTrainedModel) -> int:
        """Count the attention blocks of the vision tower."""
        return len(self.sees_through(model).blocks(self.tower(model)))

    def check(self, model: PreTrainedModel) -> int:
        """Check what does not depend on inputs: the number of attention blocks of the tower, if all is well.

        Raises:
            ModelError: a tower or a projector that cannot be used.
        """
        self.projector(model)
        return self.depth(model)

    def projector(self, model: PreTrainedModel) -> nn.Module:
        """Return the module between the vision tower and the language model, applied patch by patch.

        Raises:
            ModelError: there is none.
        """
        projector = getattr(model.base_model, "multi_modal_projector", None)
        if not isinstance(projector, nn.Module):
            raise ModelError(f"{type(model).__name__} has no multi_modal_projector; herovlm needs one to look through")
        return projector

    def side(self, model: PreTrainedModel) -> int:
        """Count the patches on a side of one tile."""
        vision = model.config.vision_config
        return int(vision.image_size // vision.patch_size)

    @torch.no_grad()
    def see(
        self,
        model: PreTrainedModel,
        inputs: Mapping[str, Any],
        images: Sequence[Geometry],
        needs: Needs,
        cut: Narrow | None = None,
    ) -> Look:
        """Run the vision tower once and record what methods need, but for what the question has to say to it.

        Args:
            model: the model.
            inputs: what its processor returned, checked; image_sizes on the host.
            images: the geometry of each image, in prompt order.
            needs: what to record.
            cut: lets only a share of the patches through the tower.

        Raises:
            UnsupportedError: a tower that cannot be watched.
        """
        kind, tower, projector = self.sees_through(model), self.tower(model), self.projector(model)
        vision = {name: inputs[name] for name in VISION_INPUTS if inputs.get(name) is not None}
        vision["pixel_values"] = offload.beside(vision["pixel_values"], offload.home(tower))
        blocks = kind.blocks(tower)
        features = shortcut.feature_blocks(model, inputs, len(blocks))
        valid = torch.cat([image.valid for image in images])
        with (
            kind.reading(tower, needs, max(features)) as found,
            recording.inputs_of(projector, needs.hidden or needs.dots) as hidden,
            nullcontext() if cut is None else kind.narrowed(tower, projector, cut, features, valid) as passed,
            recording.outputs_of(projector) as projected,
            offload.brought(model.base_model),
        ):
            states: Tensor = self.encoder(model).get_image_features(**vision, return_dict=True).last_hidden_state
            newline = self.newline(model)
        before, recorded, through = torch.cat(hidden) if hidden else None, found, None
        if passed is not None:
            states = passed.spread(states, cls=True) if needs.affinity else states
            before = None if before is None else passed.spread(before)
            recorded, through = passed.whole(found), passed.through
        single = {"cls": states[:, 0].float() if needs.cls else None, "hidden": before, "through": through}
        common = {"newline": newline, "depth": len(blocks), "heads": blocks[0].num_heads}
        common = {name: x.detach() if isinstance(x, Tensor) else x for name, x in common.items()}
        return _told_apart(images, torch.cat(projected), states, single, recorded, common)

    @torch.no_grad()
    def project(self, model: PreTrainedModel, hidden: Tensor) -> Tensor:
        """Project states (n, C) as those of the tower are; the weights may be quantised."""
        projected: Tensor = self.projector(model)(hidden)
        return projected


def _told_apart(
    images: Sequence[Geometry],
    features: Tensor,
    states: Tensor,
    single: Mapping[str, Tensor | None],
    maps: Mapping[str, Mapping[int, Tensor]],
    common: Mapping[str, Any],
) -> Look:
    """Split what was recorded of all tiles into what belongs to each image."""
    here = [image.on(features.device) for image in images]
    counts = [len(one.valid) for one in here]
    valid = here[0].valid if len(here) == 1 else torch.cat([one.valid for one in here])
    features = features.masked_fill(~valid[..., None], 0)
    parts = {
        name: torch.split(offload.beside(x, features.device), counts) for name, x in single.items() if x is not None
    }
    parts["features"] = torch.split(features, counts)
    of = {name: {b: torch.split(x, counts) for b, x in blocks.items()} for name, blocks in maps.items()}
    seen = []
    for i, (grid, valid, counted, _) in enumerate(here):
        own: dict[str, Any] = {name: part[i] for name, part in parts.items()}
        own |= {name: {b: x[i] for b, x in blocks.items()} for name, blocks in of.items()}
        seen.append(Seen(grid, valid, counted=counted, **common, **own))
    starts = [sum(counts[:i]) for i in range(len(counts))]
    return Look(tuple(seen), tuple(starts), features, states, single["hidden"])
