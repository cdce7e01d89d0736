"""A stand-in for video processors where torchvision is not installed: the real ones ask for it, pictures do not.

With torchvision the real class is taken, and nothing here runs.
"""

from __future__ import annotations

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
