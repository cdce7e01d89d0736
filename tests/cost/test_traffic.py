"""What a device is given to do, and what the host reads back, is followed through every way there is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from herovlm.cost import traffic


def counted(run: Callable[[Tensor], object], *host: Tensor) -> traffic.Traffic:
    there = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    with traffic.counted([there]) as found:
        run(there)
    return found


@pytest.mark.parametrize(
    "run",
    [
        lambda x: x.sum().item(),
        lambda x: int(x[0, 0]),
        lambda x: bool((x > 1).all()),
        lambda x: 1 if x.any() else 0,
        lambda x: x.nonzero(),
        lambda x: x[x > 1],
        lambda x: torch.masked_select(x, x > 1),
        lambda x: torch.equal(x, x + 1),
        lambda x: torch.unique(x),
        lambda x: torch.bincount(x.flatten().long()),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.cpu(),
        lambda x: x.to("cpu"),
        lambda x: x.to(torch.device("cpu"), torch.float64),
        lambda x: x.to(device="cpu"),
        lambda x: torch.repeat_interleave(x[0], x[1].long()),
    ],
)
def test_every_way_to_read_back_is_one_read(run: Callable[[Tensor], object]) -> None:
    assert counted(run).waits == 1


@pytest.mark.parametrize(
    "run",
    [
        lambda x: x + 1,
        lambda x: x.shape[0] + x.numel(),
        lambda x: x[torch.tensor([0, 1])],
        lambda x: torch.nonzero_static(x, size=2),
        lambda x: torch.where(x > 1, x, 0),
        lambda x: x.topk(1).indices,
        lambda x: x.to(torch.float64),
        lambda x: torch.repeat_interleave(x, 2),
        lambda x: torch.arange(3).tolist(),
        lambda x: torch.tensor([True]).nonzero(),
    ],
)
def test_what_needs_no_answer_is_no_read(run: Callable[[Tensor], object]) -> None:
    assert counted(run).waits == 0


def test_what_was_copied_back_is_free_and_what_comes_of_it_too() -> None:
    def run(x: Tensor) -> None:
        here = (2 * x).cpu()
        assert here.sum().item() == 12
        assert here[here > 2].tolist() == [4.0, 6.0]
        assert x.sum().item() == 6  # the one that is there still is

    found = counted(run)
    assert dict(found.reads) == {"cpu": 1, "aten._local_scalar_dense": 1}
    assert found.operations == 3  # times two, the sum, and the number of it


def test_operations_are_those_on_the_device_without_views() -> None:
    assert counted(lambda x: x.T[0].reshape(2).unsqueeze(0).expand(3, 2)).operations == 0
    assert counted(lambda x: (x + 1).mul_(2)).operations == 2
    assert counted(lambda x: torch.ones(2) + 1).operations == 0
    assert counted(lambda x: torch.ones(2, 2) + x).operations == 1


def test_roots_are_weights_buffers_and_inputs() -> None:
    layer = torch.nn.BatchNorm1d(3)
    given = torch.ones(2, 3)
    assert len(traffic.roots(layer, {"x": given, "y": 1})) == 2 + 3 + 1
