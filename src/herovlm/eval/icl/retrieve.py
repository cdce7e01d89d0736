"""Who is shown: persons of the pool whose body and surroundings look most alike in CLIP space (arXiv 2407.11300)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from herovlm.errors import ModelError, SetupError, TextTowerError, reason
from herovlm.eval.icl.data import Box, Person
from herovlm.towers import relevance

MOST = 32  # the authors keep so many of the pool
BATCH = 32  # pictures in one pass of CLIP


def body(image: Image.Image, box: Box) -> Image.Image:
    """Cut out the pixels of a box; what of it lies outside the picture is left out."""
    left, top, right, bottom = box
    return image.crop((max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)))


def context(image: Image.Image, box: Box) -> Image.Image:
    """Blacken the pixels of a box, in a copy."""
    left, top, right, bottom = box
    blacked = image.copy()
    blacked.paste((0, 0, 0), (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)))
    return blacked


@dataclass(frozen=True)
class Views:
    """What CLIP makes of persons: (n, E) float32 each, on the CPU."""

    bodies: Tensor
    contexts: Tensor


def rank(asked: Views, pool: Views, most: int = MOST) -> Tensor:
    """Order the pool by likeness, sim = (cos(body, body') + cos(context, context')) / 2; the most alike first.

    Args:
        asked: m persons; embeddings need not be normalised.
        pool: n persons.
        most: how many are kept.

    Returns:
        (m, min(n, most)) int64, indices into the pool; of equal ones the earlier comes first.
    """
    return likeness(asked, pool).argsort(dim=1, descending=True, stable=True)[:, :most]


def likeness(asked: Views, pool: Views) -> Tensor:
    """Return sim of all pairs, (m, n) float32 in [-1, 1]."""
    bodies = normalize(asked.bodies, dim=-1) @ normalize(pool.bodies, dim=-1).T
    return (bodies + normalize(asked.contexts, dim=-1) @ normalize(pool.contexts, dim=-1).T) / 2


@dataclass(frozen=True)
class Retriever:
    """A CLIP that looks at persons, and what makes pixels for it."""

    clip: Any
    images: Any
    name: str

    @torch.no_grad()
    def look(self, people: Sequence[Person], step: Callable[[str], None] = lambda _: None) -> Views:
        """Embed body and context of persons, some at a time.

        Raises:
            PictureError, UsageError: a picture cannot be read, or a box is not in it; names the person.
        """
        found: list[Tensor] = []
        for start in range(0, len(people), BATCH // 2):
            step(f"looking at persons from {start + 1:,} of {len(people):,}")
            pictures = []
            for person in people[start : start + BATCH // 2]:
                image = person.look()
                pictures += [body(image, person.box), context(image, person.box)]
            pixels = self.images(images=pictures, return_tensors="pt")["pixel_values"]
            given = pixels.to(self.clip.device, self.clip.dtype)
            found.append(self.clip.get_image_features(pixel_values=given).pooler_output.float().cpu())
        both = torch.cat(found) if found else torch.zeros(0, int(self.clip.config.projection_dim))
        return Views(both[0::2], both[1::2])


def find(name: str | None, model: Any, processor: Any, *, download: bool = False) -> Retriever:
    """Find the CLIP that looks at persons: the model's own, or one by name.

    Raises:
        SetupError, ModelError: there is none on this machine.
    """
    return of_model(model, processor) if name is None else of_folder(name, model.device, download=download)


def of_model(model: Any, processor: Any) -> Retriever:
    """Look through the CLIP that belongs to a model; `herovlm.towers.relevance` says which that is.

    Raises:
        SetupError: there is none on this machine.
    """
    from transformers import CLIPImageProcessor

    try:
        clip = relevance.clip_of(model)
    except TextTowerError as error:
        raise SetupError(
            f"similar persons are found by a CLIP, and this model brings none ({reason(error).split(',')[0]}); give "
            "--retriever with the folder of a CLIP, such as one of openai/clip-vit-base-patch16"
        ) from None
    side = int(clip.config.vision_config.image_size)
    own = processor.image_processor
    how = {"image_mean": list(own.image_mean), "image_std": list(own.image_std)}
    shape = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    return Retriever(clip.to(model.device), CLIPImageProcessor(**shape, **how), "the model's own")


def of_folder(name: str, device: torch.device, *, download: bool = False) -> Retriever:
    """Look through a CLIP in a folder, or of that name in the local cache of the hub; the authors take ViT-B/16.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoImageProcessor, CLIPModel

    how: dict[str, Any] = {"local_files_only": not download}
    where = str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
    try:
        clip = CLIPModel.from_pretrained(where, dtype=torch.float32, **how).eval().to(device)
        images = AutoImageProcessor.from_pretrained(where, **how)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{name} is no CLIP on this machine ({reason(error)[:120]}); give --retriever a folder with the config, "
            "weights and image processor of one"
        ) from error
    return Retriever(clip, images, name)
