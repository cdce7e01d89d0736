"""The end-to-end replay is able to see a difference."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import replay  # noqa: E402
from replays import hero_e2e  # noqa: E402


@pytest.mark.parametrize(
    ("name", "differs"),
    [("alloc", {"alloc"}), ("T_clip", {"alloc", "clip_softmax", "fused", "local_mask", "llm_tokens"})],
)
def test_it_sees_a_difference(name: str, differs: set[str]) -> None:
    path = HERE / "hero_e2e"
    case = replay.cases(path)["00"]
    found = hero_e2e.differences({**case, name: case[name] * 2}, path)
    assert set(found) - {"llm_tokens of the prompt"} == differs
