"""A loop that is replayed picks what it picks when it just runs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from herovlm.ops import coverage, diversity, replay, threefold

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
LOOPS = {
    "k_center": lambda similar, weight: diversity.k_center(similar, diversity.loneliest(similar), 12),
    "max_sum": lambda similar, weight: diversity.max_sum(similar, weight.argmax(1, keepdim=True), 12),
    "dpp": lambda similar, weight: diversity.dpp(similar, weight, 12),
    "coverage": lambda similar, weight: coverage.order(similar, 12, weight),
    "threefold": lambda similar, weight: threefold.order(similar, weight, 12, alpha=0.5, lam=0.5),
}


def drawn(seed: int, contests: int = 2, n: int = 40) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(contests, n, 16, generator=random, dtype=torch.float64)
    return diversity.cosines(features), torch.rand(contests, n, generator=random) + 0.1


def test_without_a_gpu_the_loop_just_runs() -> None:
    given = [torch.ones(2), 3, [1, 2]]
    assert replay.replayed(lambda tensor, number, some: tensor * number + some[1], given).tolist() == [5.0, 5.0]


@CUDA
@pytest.mark.parametrize("name", LOOPS)
def test_a_graph_picks_what_the_loop_picks(name: str) -> None:
    """First it runs, then it is recorded, then replayed: each time for other values, and for another shape between."""
    for seed in range(5):
        similar, weight = drawn(seed)
        on_gpu = LOOPS[name](similar.cuda(), weight.cuda())
        other = LOOPS[name](*(one.cuda() for one in drawn(seed, 1, 33)))
        assert torch.equal(on_gpu.cpu()[:, :12], LOOPS[name](similar, weight)[:, :12])
        assert torch.equal(other.cpu()[:, :12], LOOPS[name](*drawn(seed, 1, 33))[:, :12])


@CUDA
def test_what_was_returned_is_not_written_to_again() -> None:
    found = [LOOPS["dpp"](*(one.cuda() for one in drawn(seed))) for seed in range(4)]
    for seed, own in enumerate(found):
        assert torch.equal(own.cpu()[:, :12], LOOPS["dpp"](*drawn(seed))[:, :12])


@CUDA
def test_streams_wait_for_each_other() -> None:
    streams = [torch.cuda.Stream() for _ in range(3)]
    given = [[one.cuda() for one in drawn(seed)] for seed in range(6)]
    torch.cuda.synchronize()
    found = []
    for i, own in enumerate(given):
        with torch.cuda.stream(streams[i % 3]):
            found.append(LOOPS["k_center"](*own))
    torch.cuda.synchronize()
    for seed, own in enumerate(found):
        assert torch.equal(own.cpu()[:, :12], LOOPS["k_center"](*drawn(seed))[:, :12])


@CUDA
def test_few_are_remembered() -> None:
    for n in range(20, 40):
        for seed in range(2):
            LOOPS["max_sum"](*(one.cuda() for one in drawn(seed, 1, n)))
    assert len(replay._known) <= replay.MOST
