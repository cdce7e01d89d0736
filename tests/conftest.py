"""Fixtures that more than one folder needs, and which tests `pytest -m core` and `pytest -m quick` run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import tiny
from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True, max_examples=60)  # slow machines, same run twice
settings.load_profile("house")

MARKED = {  # mark -> how the paths of its tests begin
    # what depends on transformers: run on every release that is supported
    "core": (
        "contract/",
        "api/",
        "llm/",
        "families/",
        "towers/",
        "prompt/",
        "seams/",
        "golden/",
        "cli/test_main",
        "cli/test_ask",
        "cli/test_compare",
    ),
    # two minutes while one writes
    "quick": ("methods/", "ops/", "test_types", "test_spec", "test_registry", "test_public", "api/test_oracle"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by where they lie."""
    for item in items:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        for mark, places in MARKED.items():
            if path.startswith(places):
                item.add_marker(mark)


@pytest.fixture(scope="session")
def models() -> Callable[..., tiny.Tiny]:
    """Make tiny models, each combination once: `models("llava_next")`, `models("llava", text="qwen2")`."""
    return cache(tiny.make)
