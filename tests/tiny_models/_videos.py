"""A stand-in for video processors where torchvision is not installed: the real ones ask for it, pictures do not.

With torchvision the real class is taken, and nothing here runs.
"""

from __future__ import annotations

from typing import Any

import transformers
from transformers import video_processing_utils as real
from transformers.models.auto.video_processing_auto import AutoVideoProcessor
from transformers.utils import is_torchvision_available


class Stills(real.BaseVideoProcessor):  # type: ignore[misc]
    """Takes no videos, but is saved, loaded and asked for its settings as if it did."""

    merge_size = 2
    temporal_patch_size = 2

    def preprocess(self, *_: Any, **__: Any) -> Any:
        raise ImportError("videos need torchvision")


def videos(name: str, config: Any, **settings: Any) -> Any:
    """Make the family's video processor, or what stands in for it."""
    if is_torchvision_available():
        return getattr(transformers, name)(**settings)
    for base in ("BaseVideoProcessor", "VideoProcessorMixin"):  # a processor asks for one of them by name
        if hasattr(real, base):
            setattr(transformers, base, getattr(real, base))
    AutoVideoProcessor.register(config, Stills, exist_ok=True)
    return Stills(**settings)
