"""What every model family shares, with LLaVA's ways as the default: inputs, geometry, one look, and the way back.

Host, before the tower runs: `checked`, `layouts`, `geometry`, `position_ids`.  Tower: `tower`, `encoder`, `projector`,
`pooled`, `flat`, `beside`.  Back to the model: `encoded`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from herovlm.errors import ModelError
from herovlm.families import cells
from herovlm.families.cells import Look
from herovlm.geometry import Geometry
from herovlm.prompt.positions import Prompt
from herovlm.seams import offload, refuse
from herovlm.towers import recording, shortcut
from herovlm.towers.base import Found, Tower
from herovlm.towers.clip import Clip
from herovlm.types import Narrow, Needs


class Family(ABC):
    """Looks through a model's own vision tower and hands its language model fewer positions.

    A family says how it packs; no model code is copied and no class is patched.  Families keep no state.
    """

    name: ClassVar[str]  # the name people know
    model_types: ClassVar[tuple[str, ...]]  # config.model_type
    example: ClassVar[str] = ""  # name of a checkpoint that people know
    towers: ClassVar[tuple[type[Tower], ...]] = (Clip,)  # kinds of towers that it may see through
    media: ClassVar[tuple[str, ...]] = (
        "pixel_values",
    )  # names of pixels in a call: with one there is something to see
    vision: ClassVar[tuple[str, ...]] = (  # names of all in a call that belongs to the encoder, `media` among them
        "pixel_values",
        "image_sizes",
        "vision_feature_layer",
        "vision_feature_select_strategy",
    )
    sent: ClassVar[tuple[str, ...]] = ()  # names of `vision` besides, which the encoder wants on its device
    overviews: ClassVar[bool] = True  # whether a tile shows the whole picture, where there are several
    withheld: ClassVar[frozenset[str]] = frozenset()  # of what its towers offer: signals that mean nothing here
    positions: ClassVar[tuple[str, ...]] = ("compact", "original")  # that it may be asked for, its default first
    numbered: ClassVar[str] = ""  # why one of the two is missing
    shrinks: ClassVar[bool] = False  # whether `families.smaller` can make its pictures smaller
    alone_newlines: ClassVar[int] = 0  # that a picture of one tile ends in

    def shell(self, config: Any) -> Any:
        """Return a stand-in for a model without weights, of which geometry can be asked."""
        return SimpleNamespace(config=config)

    @abstractmethod
    def geometry(self, model: PreTrainedModel, sizes: Sequence[Sequence[int]]) -> list[Geometry]:
        """Find where every visual position of pictures of some sizes (height, width) comes from; or of a shell."""

    @abstractmethod
    def layouts(
        self, model: PreTrainedModel, inputs: Mapping[str, Any], prompt: Prompt | None = None
    ) -> list[Geometry]:
        """Find the geometry of every image of a call, in prompt order.

        Args:
            model: the model.
            inputs: of the call, as `checked` returned them.
            prompt: its tokens, on the host: their placeholders say what the inputs of some models do not.
        """

    def checked(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Check what belongs to the encoder (names of `vision`); bring what is read on the host there.

        Raises:
            InputsError: the model's processor does not make such.
            UnsupportedError: it would go silently wrong.
        """
        refuse.feature_layers(model, inputs)
        side = model.config.vision_config.image_size
        refuse.tiles(inputs["pixel_values"], side, side, axes=(4, 5))
        return {**inputs, "image_sizes": refuse.sizes_of(inputs.get("image_sizes"))}

    def position_ids(
        self, model: PreTrainedModel, inputs: Mapping[str, Any], prompt: Prompt, images: Sequence[Geometry]
    ) -> Tensor:
        """Return the positions that generate() gives to the untouched prompt: (B, L), or (axes, B, L) for M-RoPE."""
        return prompt.full_positions

    def made_up(self, model: PreTrainedModel, size: Sequence[int], random: torch.Generator) -> dict[str, Tensor]:
        """Make random pixels of one picture (height, width), and what belongs to them, as a processor would return it.

        Pictures of a batch lie behind each other on the first axis.
        """
        (geometry,), extent = self.geometry(model, [size]), model.config.vision_config.image_size
        high, wide = (extent, extent) if isinstance(extent, int) else extent
        tiles = geometry.encoded // geometry.valid.shape[1]
        return {"pixel_values": torch.randn((tiles, 3, high, wide), generator=random)}

    def written(self, model: PreTrainedModel, geometry: Geometry) -> Tensor:
        """Return the tokens by which a processor writes one picture, (n,): placeholders, and what it has among them."""
        return torch.full((geometry.positions,), int(model.config.image_token_id))

    def kinds(self, prompt: Prompt) -> dict[str, Tensor]:
        """Make what else the language model reads of each token, (B, L), where a prompt is given as tokens alone."""
        return {}

    def tiles(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> Tensor:
        """Return the pixels of all real tiles of all images: (sum of T, 3, height, width)."""
        pixels: Tensor = inputs["pixel_values"]
        return pixels

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

    def offers(self, model: PreTrainedModel) -> frozenset[str]:
        """Return which signals can be had (names of `Needs` fields): of its tower, and with a meaning here."""
        tower = self.sees_through(model)
        return tower.offers - self.withheld - tower.lacks(model.config.vision_config).keys()

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
        """Return the module between the vision tower and the language model, applied position by position.

        A family whose projector mixes positions withholds "hidden" and "dots".

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

    def feature_blocks(self, model: PreTrainedModel, inputs: Mapping[str, Any], depth: int) -> tuple[int, ...]:
        """Count the blocks of the tower that each of the layers stands behind which features are taken from."""
        return shortcut.feature_blocks(model, inputs, depth)

    def pooled(self, model: PreTrainedModel, values: Tensor, axis: int) -> Tensor:
        """Pool what has one value a patch, as the tower recorded it, to positions: n patches on an axis become fewer.

        Positions come out in the order of the encoder's output; `Geometry.source` lays them out in cells.
        """
        return values

    def before(self, model: PreTrainedModel, states: Sequence[Tensor], found: Found) -> Tensor:
        """Return what the projector reads of each position, (t, n, C), in the order of the encoder's output.

        Args:
            model: the model.
            states: what it was given, call by call.
            found: what was recorded of the tower.
        """
        return torch.cat(list(states))

    def flat(self, output: Any, projected: Sequence[Tensor]) -> Tensor:
        """Return the features of all positions of all images, (t, n, D): of what the encoder and its projector gave."""
        return torch.cat(list(projected))

    def beside(self, output: Any) -> list[Tensor]:
        """List what else the language model reads of every position, as `flat`: features for its first layers."""
        return []

    def accepts(self, model: PreTrainedModel, counts: Sequence[int]) -> None:  # noqa: B027  # most take any
        """Check that the model can read prompts that keep so many positions each, in this release of transformers.

        Raises:
            UnsupportedError: it cannot.
        """

    def encoded(
        self, features: Sequence[Tensor], beside: Sequence[Sequence[Tensor]], rows: Sequence[int]
    ) -> dict[str, Any]:
        """Make what `forward` takes as mm_encoder_outputs.

        One tensor a prompt, not an image: generate() repeats the entries of this list for beams and return sequences,
        and transformers 5.18 would repeat image by image and so mix the images of one prompt.

        Args:
            features: of each image, (kept positions, D).
            beside: of each image, what else is read of each of its positions.
            rows: the prompt that each image belongs to.
        """
        return {"image": BaseModelOutputWithPooling(pooler_output=by_prompt(features, rows))}

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
        vision = self._brought(inputs, tower)
        blocks = kind.blocks(tower)
        features = self.feature_blocks(model, inputs, len(blocks))
        valid = torch.cat([image.valid for image in images]) if cut is not None else torch.empty(0)
        with (
            kind.reading(tower, needs, max(features)) as found,
            recording.inputs_of(projector, needs.hidden or needs.dots) as hidden,
            nullcontext() if cut is None else kind.narrowed(tower, projector, cut, features, valid) as passed,
            recording.outputs_of(projector) as projected,
            offload.brought(model.base_model),
        ):
            output = self.encoder(model).get_image_features(**vision, return_dict=True)
            newline = self.newline(model)
        asked = needs.cls or needs.affinity or needs.relevance is not None
        states = kind.states(output, found) if asked else None
        before, recorded, through = self.before(model, hidden, found) if hidden else None, found, None
        if passed is not None:
            states = passed.spread(states, cls=True) if states is not None and needs.affinity else states
            before = None if before is None else passed.spread(before)
            recorded, through = passed.whole(found), passed.through
        maps = {name: recorded[name] for name in cells.MAPS if name in recorded}
        maps = {name: {b: self._positions(model, name, x) for b, x in maps[name].items()} for name in maps}
        cls = states[:, 0].float() if states is not None and needs.cls else None
        single = {"cls": cls, "hidden": before, "through": through, "probe": self._probe(model, found)}
        single["layers"] = recording.stacked(found.get("layers", {}))
        common = {"newline": newline, "depth": len(blocks), "heads": blocks[0].num_heads}
        common = {name: x.detach() if isinstance(x, Tensor) else x for name, x in common.items()}
        given = cells.Given(self.flat(output, projected), states, single, maps, self.beside(output))
        return cells.laid_out(images, given, common)

    def _probe(self, model: PreTrainedModel, found: Found) -> Tensor | None:
        """Pool the rows of a pooling head, if there are any."""
        rows = next(iter(found.get("probe", {}).values()), None)
        return None if rows is None else self._positions(model, "probe", rows)

    def _brought(self, inputs: Mapping[str, Any], tower: nn.Module) -> dict[str, Any]:
        """Bring what belongs to the encoder where it is read."""
        vision = {name: inputs[name] for name in self.vision if inputs.get(name) is not None}
        device, sent = offload.home(tower), {*self.media, *self.sent} & vision.keys()
        return vision | {name: offload.beside(vision[name], device) for name in sent}

    def _positions(self, model: PreTrainedModel, name: str, values: Tensor) -> Tensor:
        """Pool one recorded tensor, if it is of patches."""
        return self.pooled(model, values, cells.AXIS[name]) if name in cells.AXIS else values

    @torch.no_grad()
    def project(self, model: PreTrainedModel, hidden: Tensor) -> Tensor:
        """Project states (n, C) as those of the tower are; the weights may be quantised."""
        projected: Tensor = self.projector(model)(hidden)
        return projected


def by_prompt(features: Sequence[Tensor], rows: Sequence[int]) -> list[Tensor]:
    """Put the embeddings of the images of one prompt behind each other: one tensor a prompt that has images."""
    found: dict[int, list[Tensor]] = {}
    for row, own in zip(rows, features, strict=True):
        found.setdefault(row, []).append(own)
    return [parts[0] if len(parts) == 1 else torch.cat(parts) for parts in found.values()]


def in_one(features: Sequence[Tensor], rows: Sequence[int]) -> dict[str, Any]:
    """Make mm_encoder_outputs for models that take one tensor, not a list.

    It is (prompts, n, D) where all prompts keep equally many positions, else (positions, 1, D): generate() counts
    positions when it repeats them for beams; transformers 5.18 repeats entry by entry, which is right for entries that
    are prompts (`refuse.repeated` sees to the others).
    """
    parts = by_prompt(features, rows)
    alike = len({len(part) for part in parts}) == 1
    pooled = torch.stack(parts) if alike else torch.cat(parts)[:, None]
    return {"image": BaseModelOutputWithPooling(pooler_output=pooled)}
