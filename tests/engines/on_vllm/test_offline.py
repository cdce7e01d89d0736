"""vLLM as the engine of a batch says what transformers says, and how much it had read."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

pytest.importorskip("vllm", reason="vLLM has an environment of its own; CI makes one")

from answers import shipped

from herovlm import demo
from herovlm.demo import scenes
from herovlm.engines.engine import Asked
from herovlm.engines.transformers import Transformers
from herovlm.engines.vllm import offline
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


def test_a_question_that_is_too_long_spoils_no_other(engine: offline.Offline) -> None:
    """Together they fail, as the seam of engines says; each of the others can be asked again."""
    some = asked()[:3]
    with pytest.raises(Exception, match="4096"):
        engine([*some, Asked("where " * 5000, some[0].picture)])
    served = shipped()
    assert engine(some) == Transformers(served.model, served.processor, Request.of(tokens=40), 8)(some)
