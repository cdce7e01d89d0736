"""Processors that ask for torchvision though they read pictures without it, for where it is not installed.

With torchvision the real classes are taken as they are, and nothing here changes anything.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import transformers
from transformers import video_processing_utils as real
from transformers.utils import is_torchvision_available


class Stills(real.BaseVideoProcessor):  # type: ignore[misc]
    """Takes no videos, but is saved, loaded and asked for its settings as if it did."""

    merge_size = 2
    temporal_patch_size = 2

    def preprocess(self, *_: Any, **__: Any) -> Any:
        raise ImportError("videos need torchvision")


def videos(name: str, **settings: Any) -> Any:
    """Make the family's video processor, or what stands in for it."""
    if is_torchvision_available():
        return getattr(transformers, name)(**settings)
    for base in ("BaseVideoProcessor", "VideoProcessorMixin"):  # a processor asks for one of them by name
        if hasattr(real, base):
            setattr(transformers, base, getattr(real, base))
    transformers.Stills = Stills  # where a saved processor looks for the class that its folder names
    return Stills(**settings)


def processor(model_type: str, name: str) -> Any:
    """The class of a processor that transformers hides for want of torchvision."""
    package = importlib.import_module(f"transformers.models.{model_type}")
    if not is_torchvision_available():
        backend = f"{package.__name__}.image_processing_{model_type}"  # it is imported for what the other has, too
        sys.modules[backend] = importlib.import_module(f"{package.__name__}.image_processing_pil_{model_type}")
        hidden = getattr(importlib.import_module(f"{package.__name__}.processing_{model_type}"), name)
        del sys.modules[backend]
        setattr(package, name, hidden)  # where AutoProcessor looks
        setattr(transformers, name, hidden)
    return getattr(package, name)
