"""vLLM as the engine of a batch says what transformers says, and how much it had read."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM has an environment of its own; CI makes one")

from answers import shipped

from herovlm import demo
from herovlm.demo import scenes
from herovlm.engines.engine import Asked
from herovlm.engines.transformers import Transformers
from herovlm.engines.vllm import eyes, offline
from herovlm.engines.vllm.asked import Settings
from herovlm.request import Request

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def engine() -> Iterator[offline.Offline]:
    from vllm.distributed import cleanup_dist_env_and_memory

    yield offline.ready(str(demo.WEIGHTS), Settings(tokens=40), 8)
    gc.collect()
    cleanup_dist_env_and_memory()


def asked() -> list[Asked]:
    made = [scenes.make(seed) for seed in range(6)]
    return [Asked(one.questions[n].text, one.image) for one in made for n in (0, -1)]


def test_a_batch_is_answered_as_by_transformers(engine: offline.Offline) -> None:
    served = shipped()
    assert engine(asked()) == Transformers(served.model, served.processor, Request.of(tokens=40), 8)(asked())


@pytest.mark.parametrize("says", ["as if there were none left", "a wrong number of positions"])
def test_a_picture_that_could_not_be_looked_at_is_no_answer(
    says: str, engine: offline.Offline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is looked at when it is asked about again: vLLM keeps nothing of what it read instead."""
    served, true = shipped(), eyes.Eyes.look
    some = [Asked(f"{one.question} {says}", one.picture) for one in asked()[6:9]]  # that were not asked before

    def look(self: Any, pictures: Any, told: Any) -> Any:
        if any(one.question == some[1].question for one in told):
            if "wrong" in says:
                return [rows[1:] for rows in true(self, pictures, told)]
            raise MemoryError(says)
        return true(self, pictures, told)

    monkeypatch.setattr(eyes.Eyes, "look", look)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=says):
            engine(some)
    monkeypatch.undo()
    assert engine(some) == Transformers(served.model, served.processor, Request.of(tokens=40), 8)(some)


def test_a_question_that_is_too_long_spoils_no_other(engine: offline.Offline) -> None:
    """Together they fail, as the seam of engines says; each of the others can be asked again."""
    some = asked()[:3]
    with pytest.raises(Exception, match="4096"):
        engine([*some, Asked("where " * 5000, some[0].picture)])
    served = shipped()
    assert engine(some) == Transformers(served.model, served.processor, Request.of(tokens=40), 8)(some)
