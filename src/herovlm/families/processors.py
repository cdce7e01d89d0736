"""What the image processor beside a model's weights is set to, read without making it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers.image_processing_base import ImageProcessingMixin


def settings(config: Any) -> Mapping[str, Any]:
    """Read the settings of the image processor that lies beside a config; none where there is none."""
    if not config.name_or_path:
        return {}
    try:
        told, _ = ImageProcessingMixin.get_image_processor_dict(config.name_or_path, local_files_only=True)
    except (OSError, ValueError):
        return {}
    found: Mapping[str, Any] = told
    return found
