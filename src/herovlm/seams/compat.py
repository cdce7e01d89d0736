"""What differs between the releases of transformers, and nothing else knows: asked of objects, never of a version."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from transformers.cache_utils import Cache
from transformers.generation import utils as generation

from herovlm.errors import UnsupportedError

CACHES = ("cache", "past_key_values")  # keywords and output fields: since 5.24, which still takes both; before


def caches_in(given: Mapping[str, Any]) -> Iterator[Any]:
    """Return every cache among keyword arguments, or in a model's output, under whatever name."""
    return (
        value for name, value in given.items() if value is not None and (name in CACHES or isinstance(value, Cache))
    )


def cache_in(given: Mapping[str, Any]) -> Any:
    """Return the cache among keyword arguments, or in a model's output; None where there is none."""
    return next(caches_in(given), None)


def as_cache(model: Any, cache: Any) -> dict[str, Any]:
    """Return a cache as the keyword under which a model takes it."""
    taken = inspect.signature(type(model).forward).parameters
    return {next(name for name in CACHES if name in taken): cache}


def of_layer(given: Mapping[str, Any], name: str) -> Any:
    """Return what the language model hands to each of its layers under a name.

    Raises:
        UnsupportedError: this release has another name for it.
    """
    if name not in given:
        raise UnsupportedError(
            f"the layers of this language model are called without {name}: a release of transformers that inside "
            "methods do not know; use a method before the language model"
        )
    return given[name]


@cache
def beams_keep_features_apart() -> bool:
    """Return whether generate() repeats the features of a prompt as a whole for beams, not entry by entry (5.18)."""
    stub: Any = SimpleNamespace(config=SimpleNamespace(image_token_id=0))
    output = {"image": SimpleNamespace(pooler_output=torch.arange(2.0).view(2, 1, 1))}
    repeat: Any = generation.GenerationMixin._expand_multimodal_outputs
    repeated = repeat(stub, torch.zeros(1, 2, dtype=torch.long), output, 2)["image"].pooler_output
    return bool(repeated.flatten().tolist() == [0, 1, 0, 1])


def chunks_keep_images_apart() -> bool:
    """Return whether `prefill_chunk_size` hands each chunk its own image features (since 5.23)."""
    return hasattr(generation, "_slice_mm_encoder_output")
