"""What every model family shares: look once, and rebuild a shorter prompt."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from herovlm.adapters import narrow, offload, packing, positions, refuse, shortcut, watch
from herovlm.adapters.narrow import Narrow
from herovlm.adapters.packing import Layout
from herovlm.errors import MethodError, ModelError, UnsupportedError
from herovlm.types import Compared, Kept, Needs, Relevance, Seen, Short

VISION_INPUTS = ("pixel_values", "image_sizes", "vision_feature_layer", "vision_feature_select_strategy")
Score = Callable[[Compared, Tensor, list[int]], Tensor]  # (kind, CLS states, patch states or pixels, prompt of each
# tile) -> cosines or products: one a tile, or one a patch where patch states (tiles, N, C) are given


class Ran(NamedTuple):
    """What came out of one run of the vision tower."""

    packed: Any  # one an image: (positions, D), as the language model reads them
    states: Tensor  # (sum of T, 1 + N, C) behind the last block, not normalised, CLS first; or CLS alone
    found: Mapping[str, Mapping[int, Tensor]]  # as `watch.recorded` has it
    hidden: Tensor | None  # (sum of T, N, C) before the projector, if wanted
    through: Tensor | None = None  # (sum of T, N) bool, if the tower was narrowed


class Adapter(ABC):
    """Looks through a model's own vision tower and hands its language model fewer positions.

    A family says how it packs; no model code is copied and no class is patched.  Adapters keep no state.
    """

    family: ClassVar[str]  # the name people know
    model_types: ClassVar[tuple[str, ...]]  # config.model_type

    @abstractmethod
    def layouts(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> list[Layout]:
        """Find where every visual position of every image comes from."""

    @abstractmethod
    def tiles(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> Tensor:
        """Return the pixels of all real tiles of all images: (sum of T, 3, height, width)."""

    def newline(self, model: PreTrainedModel) -> Tensor | None:
        """Return the embedding that closes a row, (D,), or None for families that have none."""
        return None

    def pictures(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> list[Tensor]:
        """Put each image together from its pixels, as large as they have it: (3, height, width), without padding."""
        return list(self.tiles(model, inputs))

    def with_tiles(self, model: PreTrainedModel, side: int) -> PreTrainedModel:
        """Return the network as if its tiles had `side` patches a side: to ask for geometry, with the same weights."""
        network: Any = copy.copy(model.base_model)
        network.config = copy.copy(model.config)
        network.config.vision_config = copy.copy(model.config.vision_config)
        network.config.vision_config.image_size = side * model.config.vision_config.patch_size
        return cast("PreTrainedModel", network)

    def fits(self, model: PreTrainedModel, size: tuple[int, int]) -> dict[tuple[int, int], tuple[int, int]]:
        """List the sizes (height, width) at which a picture fills several tiles; how many, and the positions sent."""
        return {}

    def tower(self, model: PreTrainedModel) -> nn.Module:
        """Return the vision tower.

        Raises:
            ModelError: the tower is not a CLIP vision tower.
        """
        kind = model.config.vision_config.model_type
        if kind != "clip_vision_model":
            raise ModelError(f"this {self.family} sees through {kind!r}; herovlm needs the CLS token of a CLIP tower")
        tower = getattr(model.base_model, "vision_tower", None)
        if not isinstance(tower, nn.Module):
            raise ModelError(f"{type(model).__name__} has no vision tower")
        return tower

    def depth(self, model: PreTrainedModel) -> int:
        """Count the attention blocks of the vision tower."""
        return len(watch.attention_blocks(self.tower(model)))

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

    def prompts(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> tuple[list[Layout], list[int]]:
        """Return the layout of each image and the row of the batch that it belongs to.

        Raises:
            InputsError: placeholders and images do not fit.
            UnsupportedError: inputs that cannot be shortened rightly.
        """
        refuse.inputs(model, inputs)
        layouts = self.layouts(model, inputs)
        prompt = positions.prompt_of(inputs, model.config)
        return layouts, positions.samples_of(prompt, [layout.positions for layout in layouts])

    @torch.no_grad()
    def see(
        self,
        model: PreTrainedModel,
        inputs: Mapping[str, Any],
        needs: Needs,
        score: Score | None = None,
        cut: Narrow | None = None,
    ) -> tuple[Seen, ...]:
        """Run the vision tower once and record what a method needs: one `Seen` an image, in prompt order.

        `score` compares with the question; it is asked only when `needs.question`, and for the relevance of tiles only
        for images that have several.  `cut` lets only a share of the patches through the tower.

        Raises:
            InputsError: placeholders and images do not fit.
            UnsupportedError: inputs that cannot be shortened rightly, or a tower that cannot be watched.
        """
        layouts, samples = self.prompts(model, inputs)
        ran = self._run(model, inputs, needs, cut, torch.cat([layout.valid for layout in layouts]))
        counts = [len(layout.valid) for layout in layouts]
        cls = ran.states[:, 0].float()
        looked_at = self.tiles(model, inputs).to(cls.device) if needs.relevance == "clip" else cls
        relevance = _relevance(score, needs.relevance, looked_at, counts, samples)
        affinity = _by_patch(score, "tower", ran.states[:, 1:], counts, samples) if needs.affinity else None
        dots = _by_patch(score, "dots", ran.hidden, counts, samples) if needs.dots else None
        maps = {k: {b: torch.split(x, counts) for b, x in v.items()} for k, v in ran.found.items()}
        before = None if ran.hidden is None else torch.split(ran.hidden, counts)
        through = None if ran.through is None else torch.split(ran.through.to(cls.device), counts)
        blocks, seen, newline = watch.attention_blocks(self.tower(model)), [], self.newline(model)
        for i, (layout, own) in enumerate(zip(layouts, torch.split(cls, counts), strict=True)):
            here = layout.to(cls.device)
            recorded: dict[str, Any] = {name: {b: of[i] for b, of in blocks.items()} for name, blocks in maps.items()}
            seen.append(
                Seen(
                    grid=here.grid,
                    valid=here.valid,
                    features=_unpack(here, ran.packed[i]),
                    cls=own if needs.cls else None,
                    relevance=relevance[i],
                    affinity=None if affinity is None else affinity[i],
                    dots=None if dots is None else dots[i],
                    hidden=None if before is None else before[i],
                    newline=None if newline is None else newline.detach(),
                    through=None if through is None else through[i],
                    depth=len(blocks),
                    heads=blocks[0].num_heads,
                    **recorded,
                )
            )
        return tuple(seen)

    def _run(
        self, model: PreTrainedModel, inputs: Mapping[str, Any], needs: Needs, cut: Narrow | None, valid: Tensor
    ) -> Ran:
        """Run the tower once, over tiles whose patches are `valid` (sum of T, N)."""
        tower, projector = self.tower(model), self.projector(model)
        vision = {name: inputs[name] for name in VISION_INPUTS if inputs.get(name) is not None}
        vision["pixel_values"] = vision["pixel_values"].to(offload.home(tower))
        features = shortcut.feature_blocks(model, inputs, self.depth(model))
        with (
            watch.recorded(tower, watch.wanted(needs)) as found,
            watch.inputs_of(projector, needs.hidden or needs.dots) as hidden,
            shortcut.taken(tower, max(features), needs),
            nullcontext() if cut is None else narrow.applied(tower, projector, cut, features, valid) as passed,
            offload.brought(model.base_model),
        ):
            output = model.base_model.get_image_features(**vision, return_dict=True)
        before, states = torch.cat(hidden) if hidden else None, output.last_hidden_state
        if passed is None:
            return Ran(output.pooler_output, states, found, before)
        states = passed.spread(states, cls=True) if needs.affinity else states
        before = None if before is None else passed.spread(before)
        return Ran(output.pooler_output, states, passed.whole(found), before, passed.through)

    def rebuild(
        self,
        model: PreTrainedModel,
        inputs: Mapping[str, Any],
        seen: Sequence[Seen],
        kept: Sequence[Kept],
        *,
        original: bool = False,
    ) -> Short:
        """Make the shorter inputs: fewer placeholders, the same padding side, and the features that were kept.

        When everything was kept, the prompt is left exactly as it was.  `original` keeps the position ids of the
        untouched prompt; otherwise the short prompt is numbered 0, 1, ... as usual.

        Raises:
            MethodError: a method kept padding.
            UnsupportedError: a combination that would be silently wrong.
        """
        prompt = positions.prompt_of(inputs, model.config)
        refuse.position_options(inputs, prompt.full_positions, original)
        slots = [_checked_slots(s, k, original) for s, k in zip(seen, kept, strict=True)]
        made = [self._made(model, s, k) for s, k in zip(seen, kept, strict=True)]
        with offload.brought(model.base_model):
            newline = self.newline(model)
            features = [_features(s, k, m, o, newline) for s, k, m, o in zip(seen, kept, made, slots, strict=True)]
        rest = {name: value for name, value in inputs.items() if name not in VISION_INPUTS}
        columns = positions.columns(prompt, seen, slots)
        if not all(_whole(s, k) for s, k in zip(seen, kept, strict=True)):
            rest = positions.shorten(rest, prompt, columns, original)
            if original:
                refuse.original_positions(model, prompt.length(inputs))
        samples = positions.samples_of(prompt, [s.positions for s in seen])
        # One tensor a prompt, not an image: generate() repeats the entries of this list for beams and return
        # sequences, and transformers 5.18 would repeat image by image and so mix the images of one prompt.
        by_prompt: dict[int, list[Tensor]] = {}
        for row, embeddings in zip(samples, features, strict=True):
            by_prompt.setdefault(row, []).append(embeddings)
        pooled = [torch.cat(parts) for parts in by_prompt.values()]
        rest["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=pooled)}
        return Short(rest, tuple(seen), tuple(kept), tuple(columns), prompt.image)

    @torch.no_grad()
    def _made(self, model: PreTrainedModel, seen: Seen, kept: Kept) -> Tensor | None:
        """Return the features that a method made, (n_kept_patches, D), projected where it stopped before that."""
        if kept.hidden is None:
            return kept.features
        if seen.hidden is None:
            raise MethodError("Kept.hidden goes through the projector; a method that gives it must need hidden states")
        projected: Tensor = self.projector(model)(kept.hidden.to(seen.hidden))  # its weights may be quantised
        return projected


def everything(seen: Seen) -> Kept:
    """Keep all that the untouched model sends."""
    return Kept(mask=seen.valid, newlines=seen.grid.sent)


def _relevance(
    score: Score | None, kind: Relevance | None, looked_at: Tensor, counts: Sequence[int], samples: Sequence[int]
) -> list[Tensor | None]:
    """Score the tiles of images that have several; a lone tile has nothing to be compared with."""
    tiled = [image for image, count in enumerate(counts) if count > 1]
    relevance: list[Tensor | None] = [None] * len(counts)
    if tiled and score is not None and kind is not None:
        parts = torch.split(looked_at, list(counts))
        prompts = [samples[image] for image in tiled for _ in range(counts[image])]
        cosines = score(kind, torch.cat([parts[image] for image in tiled]), prompts)
        for image, part in zip(tiled, torch.split(cosines, [counts[image] for image in tiled]), strict=True):
            relevance[image] = part
    return relevance


def _by_patch(
    score: Score | None, kind: Compared, states: Tensor | None, counts: Sequence[int], samples: Sequence[int]
) -> Sequence[Tensor] | None:
    """Score every patch: states (sum of T, N, C) -> (T, N) an image."""
    if score is None or states is None:
        return None
    prompts = [sample for sample, count in zip(samples, counts, strict=True) for _ in range(count)]
    return torch.split(score(kind, states.float(), prompts), list(counts))


def _unpack(layout: Layout, packed: Tensor) -> Tensor:
    """Scatter packed features (positions, D) back to (T, N, D); zero where the model sends nothing."""
    order = layout.grid.order[packing.is_sent(layout.grid, layout.valid)]
    features = packed.new_zeros(layout.valid.numel(), packed.shape[-1])
    features[order[order >= 0]] = packed[order >= 0]
    return features.view(*layout.valid.shape, -1)


def _whole(seen: Seen, kept: Kept) -> bool:
    """Return whether a record keeps exactly what the untouched model sends."""
    same = seen.resized is None and torch.equal(kept.mask, seen.valid) and torch.equal(kept.newlines, seen.grid.sent)
    return same and kept.features is None and kept.hidden is None


def _checked_slots(seen: Seen, kept: Kept, original: bool) -> Tensor:
    """Slots of the order that were kept, in the order the LLM reads them."""
    if bool((kept.mask & ~seen.valid).any()):
        raise MethodError("the method kept patches that lie wholly in padding; Kept.mask must be within Seen.valid")
    if original and bool((kept.newlines & ~seen.grid.sent).any()):
        raise UnsupportedError(
            "positions='original' with newlines of the padded canvas: the untouched prompt has no position for them; "
            "use positions='compact', or newlines='touched', 'all' or 'none'"
        )
    return seen.grid.on_slots(kept.mask, kept.newlines).nonzero().flatten()


def _features(seen: Seen, kept: Kept, made: Tensor | None, slots: Tensor, newline: Tensor | None) -> Tensor:
    """Embeddings for the LLM in slot order: (kept positions, D)."""
    order = seen.grid.order[slots]
    if seen.features is None:
        raise MethodError("Seen.features is missing: rebuild needs the features that see() recorded")
    source = seen.features.flatten(0, 1)
    rows = order.clamp(min=0)
    if made is not None:
        source = made.to(source)
        rows = (kept.mask.flatten().cumsum(0) - 1)[rows].clamp(min=0)
    if newline is None or bool((order >= 0).all()):
        return source[rows]
    return torch.where((order >= 0)[:, None], source[rows], newline.detach().to(source))
