"""The one clock: the time when a device is done, and marks on its time line."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch


def now(device: torch.device) -> float:
    """Seconds of the wall clock when all work given to a device so far is done."""
    wait(device)
    return time.perf_counter()


def wait(device: torch.device) -> None:
    """Wait until all work given to a device so far is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Clock:
    """Marks on the time line of a device: CUDA events, or on a CPU the clock of `time` that `tick` names."""

    tick: ClassVar[Literal["perf_counter", "process_time"]] = "perf_counter"  # the wall's; with one thread the other,
    # the processor's own, is hardly disturbed by neighbours on a busy machine

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def start(self) -> Any:
        """Mark the time when all earlier work is done."""
        wait(self.device)
        return self.mark()

    def mark(self) -> Any:
        """Mark the time when the work given to the device so far is done; does not wait for it."""
        if self.device.type != "cuda":
            return float(getattr(time, self.tick)())
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """Wait for the device, and return the seconds between each mark and the next."""
        wait(self.device)
        pairs = itertools.pairwise(marks)
        if self.device.type == "cuda":
            return [first.elapsed_time(second) / 1e3 for first, second in pairs]
        return [second - first for first, second in pairs]
