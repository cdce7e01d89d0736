"""Marks make gaps, and on a GPU nothing is read before the work is done."""

from __future__ import annotations

import pytest
import torch

from herovlm import clock


def test_marks_make_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 1.5, 3.5])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(times))
    watch = clock.Clock(torch.device("cpu"))
    assert watch.seconds([watch.start(), watch.mark(), watch.mark()]) == [0.5, 2.0]


def test_on_cuda_marks_are_events_and_nothing_is_read_before_they_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            log.append("record")

        def elapsed_time(self, other: Event) -> float:
            log.append("read")
            return 1500.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: log.append("wait"))
    watch = clock.Clock(torch.device("cuda"))
    assert watch.seconds([watch.start(), watch.mark()]) == [1.5]
    assert log == ["wait", "record", "record", "wait", "read"]


def test_now_waits_for_the_device_and_only_for_one_that_has_to_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[object] = []
    monkeypatch.setattr(torch.cuda, "synchronize", log.append)
    monkeypatch.setattr(clock.time, "perf_counter", lambda: float(len(log)))
    cuda = torch.device("cuda", 1)
    assert (clock.now(torch.device("cpu")), clock.now(cuda), log) == (0.0, 1.0, [cuda])


def test_the_time_may_be_that_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which does not pass while one sleeps."""
    monkeypatch.setattr(clock.Clock, "tick", "process_time")
    monkeypatch.setattr(clock.time, "process_time", lambda: 7.0)
    marks = [clock.Clock(torch.device("cpu")).mark() for _ in range(2)]
    assert marks == [7.0, 7.0]
