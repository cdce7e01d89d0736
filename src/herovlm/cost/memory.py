"""Peak memory of a run: what CUDA's allocator held at most, or on a CPU the resident set of the whole process."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

PROC = Path("/proc/self")


@dataclass
class Peak:
    """Bytes at the most, known when the body is done, and bytes before it."""

    bytes: int = 0
    before: int = 0

    @property
    def above(self) -> int:
        """What the body added at the most."""
        return max(0, self.bytes - self.before)  # the kernel counts pages a little late


@contextmanager
def peak(device: torch.device) -> Iterator[Peak]:
    """Measure the peak memory while the body runs, weights included.

    Yields:
        A record that holds the bytes afterwards; `kind` says what they are.
    """
    found = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        found.before = torch.cuda.memory_allocated(device)
        yield found
        found.bytes = torch.cuda.max_memory_allocated(device)
        return
    resettable()
    found.before = _high_water()
    yield found
    found.bytes = _high_water()


def kind(device: torch.device) -> str:
    """Return what `peak` measures on a device."""
    if device.type == "cuda":
        return "CUDA allocator"
    return "resident set of the process" if resettable() else "resident set of the process since it started"


def resettable() -> bool:
    """Set the high-water mark of the kernel to what is resident now, and say whether that could be done."""
    try:
        (PROC / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _high_water() -> int:
    try:
        line = re.search(r"VmHWM:\s+(\d+) kB", (PROC / "status").read_text())
    except OSError:
        line = None
    if line:
        return int(line[1]) * 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
