"""Fixtures that more than one folder needs, and which tests `pytest -m core` and `pytest -m quick` run."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True, max_examples=60)  # slow machines, same run twice
settings.load_profile("house")

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MOST = 8  # workers of `pytest -n auto`: each holds a gigabyte

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):  # they, and what they start, share the cores
    os.environ["OMP_NUM_THREADS"] = str(min(torch.get_num_threads(), max(1, CORES // workers)))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

MARKED = {  # mark -> how the paths of its tests begin
    # what depends on transformers: run on every release that is supported
    "core": (
        "contract/",  # but what is of methods alone, which import no transformers
        "api/",
        "llm/",
        "families/",
        "towers/",
        "prompt/",
        "seams/",
        "golden/",
        "cli/test_main",
    ),
    # two minutes while one writes
    "quick": ("methods/", "ops/", "test_types", "test_spec", "test_registry", "test_public", "api/test_oracle"),
}


ALONE = (  # of methods on hand-made signals, or the same way through transformers as others with other inputs
    "contract/test_methods.py",
    "contract/test_fixed.py",
    "contract/test_odd_pictures.py",
    "api/test_fuzz.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Count the cores that we may use; xdist counts pairs of hyperthreads, half as many."""
    return min(MOST, CORES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by where they lie."""
    for item in items:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        for mark, places in MARKED.items():
            if path.startswith(places) and not (mark == "core" and path in ALONE):
                item.add_marker(mark)


@pytest.fixture(scope="session")
def models() -> Callable[..., tiny.Tiny]:
    """Make tiny models, each combination once: `models("llava_next")`, `models("llava", text="qwen2")`."""
    return cache(tiny.make)
