"""Fixtures that more than one folder needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import tiny
from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True, max_examples=60)  # slow machines, same run twice
settings.load_profile("house")


@pytest.fixture(scope="session")
def models() -> Callable[..., tiny.Tiny]:
    """Make tiny models, each combination once: `models("llava_next")`, `models("llava", text="qwen2")`."""
    return cache(tiny.make)
