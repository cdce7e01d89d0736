"""IGVA on a model: features fused as the question asks (arXiv 2501.08443), for every method and every decoding.

The language model never sees the difference; a picture's features are made when its question is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

import torch
from torch import Tensor

from herovlm import modules, registry
from herovlm.budget import Auto, Budget
from herovlm.errors import ModelError, SetupError, UnsupportedError
from herovlm.extras import require
from herovlm.modules import fusion
from herovlm.seams import hooks, offload
from herovlm.towers import relevance
from herovlm.types import Needs, Seen

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from herovlm.families.base import Family

FAMILIES = ("llava", "llava_next")
CLIP, MPNET = "the CLIP text tower", "all-mpnet-base-v2"
PROBES = 8  # values of the projector that name the model
Sentences = Callable[[Sequence[str], torch.device], Tensor]  # questions -> (Q, E) float32, normalised


class Looking(local):
    """Whether this thread lets the tower run before the question is known."""

    now = False


@dataclass(frozen=True, eq=False)
class Igva:
    """Fused features, made once the question is known; the part that `herovlm.modules.attach` puts on a model.

    One set of weights a picture, from the CLS states of its first tile (the thumbnail), for all its tiles: the authors
    publish no rule for tiles that works.
    """

    fusion: fusion.Fusion
    sentences: Sentences
    _looking: Looking = field(default_factory=Looking, repr=False)

    @property
    def needs(self) -> Needs:
        """Mean states of the groups, and the states that the model's own projector reads."""
        return Needs(hidden=True, layers=self.fusion.groups)

    def check(self, budget: Budget, narrow: tuple[float | int, float] | None) -> None:
        """Refuse a narrowed tower, whose layers do not see the same patches, and calibrations of plain features."""
        if narrow is not None and narrow[1] < 1:
            raise UnsupportedError(
                "narrow with IGVA, which mixes patches of all layers, and some are left out; leave one"
            )
        if isinstance(budget, Auto):
            raise UnsupportedError(f"keep='{budget}' was measured on features that are not fused; give a share")

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Let the model's own projector run: what it gives is not used."""
        before, self._looking.now = self._looking.now, True
        try:
            yield
        finally:
            self._looking.now = before

    def refuse(self, *_: Any) -> None:
        """Refuse features that no question has been asked of."""
        raise UnsupportedError(
            "this model has IGVA attached, whose features depend on the question: give pictures to it inside 'with "
            'herovlm.dropping(model, method="full"):\', or by herovlm.drop(model, inputs, ...); remove() takes it off'
        )

    @torch.no_grad()
    def weights(self, seen: Sequence[Seen], questions: Sequence[str]) -> Tensor:
        """Weigh the groups of layers for each picture under its question: (pictures, K) float32."""
        unique = list(dict.fromkeys(questions))
        device = _layers(seen[0]).device
        asked = dict(zip(unique, self.sentences(unique, device), strict=True))
        self.fusion.to(device)
        return torch.stack(
            [self.fusion.weights(asked[own], _layers(one)) for one, own in zip(seen, questions, strict=True)]
        )

    def asked(self, seen: Sequence[Seen], questions: Sequence[str]) -> list[Seen]:
        """Fuse the features of each picture as its question asks."""
        weights, found = self.weights(seen, questions), []
        for one, own in zip(seen, weights, strict=True):
            if one.hidden is None:
                raise ModelError("the states before the projector were not recorded, which IGVA fuses")
            wide = fusion.fused(one.hidden, _layers(one), own)
            features = self.project(wide).masked_fill(~one.valid[..., None], 0)
            found.append(replace(one, features=features, hidden=wide))
        return found

    @torch.no_grad()
    def project(self, hidden: Tensor) -> Tensor:
        """Project fused states (..., 2 C)."""
        projected: Tensor = self.fusion.projector(hidden)
        return projected


def _layers(seen: Seen) -> Tensor:
    if seen.layers is None:
        raise ModelError("the layers of the vision tower were not recorded, which IGVA fuses")
    return seen.layers


def join(model: PreTrainedModel, folder: Path, card: Mapping[str, Any]) -> tuple[Callable[[], None], Igva]:
    """Put IGVA on a model: nothing but one hook, which refuses pictures that come without a question.

    Raises:
        SetupError: files that are broken.
        UnsupportedError: a family or a tower that it is not made for.
        ModelError: weights for a model of another shape.
    """
    family = registry.family(model)
    fits(family, model)
    shapes, values = card.get("shapes"), modules.weights(folder)
    if not isinstance(shapes, Mapping) or card.get("sentence") not in (CLIP, MPNET):
        raise SetupError(
            f"{folder} does not say its shapes and its sentence, {CLIP!r} or {MPNET!r}; get its files again"
        )
    own = shapes_of(family, model)
    other = [f"{name} {shapes.get(name)} (here {value})" for name, value in own.items() if shapes.get(name) != value]
    if other:
        raise ModelError(f"{folder.name} was made for a model of another shape: {', '.join(other)}; train it for this")
    projector = family.projector(model)
    given, there = card.get("probes"), probes(projector)
    if given is not None and not torch.allclose(torch.tensor(given), torch.tensor(there), rtol=0.02, atol=1e-5):
        raise ModelError(
            f"{folder.name} was made for {card.get('made_for', 'another model')}; this has other weights: train it anew"
        )
    part = Igva(_built(family, model, shapes, values, folder), _sentences(card["sentence"], model))
    return hooks.before(projector, part.refuse, lambda: not part._looking.now).remove, part


def fits(family: Family, model: PreTrainedModel) -> None:
    """Check that the features of a model can be fused.

    Raises:
        UnsupportedError: they cannot, and why.
    """
    tower = family.sees_through(model)
    if not {*family.model_types} & {*FAMILIES} or "layers" not in family.offers(model):
        raise UnsupportedError(
            "IGVA asks the CLS states of a CLIP tower and widens a projector like LLaVA's; this is "
            f"{family.name}, which sees through {tower.kind}; take a LLaVA-1.5 or a LLaVA-NeXT"
        )
    if not isinstance(model.config.vision_feature_layer, int):
        raise UnsupportedError(
            f"IGVA puts fused features beside those of one layer; this model reads {model.config.vision_feature_layer}"
        )


def shapes_of(family: Family, model: PreTrainedModel) -> dict[str, int]:
    """Return what of a model the weights have to fit."""
    projector: Any = family.projector(model)
    return {
        "depth": family.depth(model),
        "channels": int(projector.linear_1.in_features),
        "llm": int(projector.linear_2.out_features),
        "feature_layer": int(model.config.vision_feature_layer),
    }


def probes(projector: Any) -> list[float]:
    """Read a few values of a projector, by which a model is known again."""
    flat = projector.linear_1.weight.detach().flatten()
    places = [(2 * i + 1) * len(flat) // (2 * PROBES) for i in range(PROBES)]
    return [float(value) for value in flat[places].float().tolist()]


def _built(
    family: Family, model: PreTrainedModel, shapes: Mapping[str, Any], values: Mapping[str, Tensor], folder: Path
) -> fusion.Fusion:
    """Make the network and load its weights: the aggregator in float32, the projector as the model's own is."""
    projector = family.projector(model)
    try:
        sizes = {name: int(shapes[name]) for name in ("sentence", "channels", "width", "blocks", "heads")}
        made = fusion.Fusion(
            fusion.Aggregator(groups=len(shapes["groups"]), **sizes), fusion.widened(projector), shapes["groups"]
        )
        made.load_state_dict(values)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise SetupError(f"the weights of {folder} are not what its card says: {str(error)[:200]}") from error
    weight = next(projector.parameters())
    made.projector.to(offload.home(projector), weight.dtype)
    return made.eval().requires_grad_(False)


def _sentences(name: str, model: PreTrainedModel) -> Sentences:
    """Return what embeds questions: the CLIP text tower of a model, or all-mpnet-base-v2 from this machine."""
    if name == CLIP:
        its = ref(model)
        return lambda questions, device: relevance.sentences(cast("PreTrainedModel", its()), questions, device)
    try:
        reader = require("sentence_transformers", extra="sentences").SentenceTransformer(MPNET, local_files_only=True)
    except (OSError, ValueError) as error:
        raise SetupError(
            f"{MPNET} is not on this machine; get it once by sentence_transformers.SentenceTransformer({MPNET!r})"
        ) from error

    def embed(questions: Sequence[str], device: torch.device) -> Tensor:
        vectors: Tensor = reader.encode(list(questions), convert_to_tensor=True, normalize_embeddings=True)
        return vectors.to(device).float()

    return embed
