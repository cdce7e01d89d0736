"""A tiny model in a folder, as a user has one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny

Cli = Callable[..., Any]  # words -> result with exit_code, stdout, stderr


def save(made: tiny.Tiny, folder: Path, clip: bool = True) -> Path:
    """Save a tiny model as `from_pretrained` wants it, its CLIP inside."""
    made.model.config.herovlm_clip = "clip" if clip else None
    made.model.save_pretrained(folder)
    made.processor.save_pretrained(folder)
    if clip:
        made.clip.save_pretrained(folder / "clip")
        tiny.clip_tokenizer().save_pretrained(folder / "clip")
    return folder
