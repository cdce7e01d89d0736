"""Peak memory is that of the body, not of what came before it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from herovlm.cost import memory

CPU, MIB = torch.device("cpu"), 2**20


def hold(mebibytes: int) -> int:
    with memory.peak(CPU) as found:
        torch.ones(mebibytes * MIB // 4)
    assert found.bytes == found.before + found.above
    return found.above


@pytest.mark.skipif(not memory.resettable(), reason="this kernel keeps its high-water mark")
def test_each_body_has_its_own_peak() -> None:
    first, second, third = hold(200), hold(600), hold(100)
    assert (first < 400 * MIB, second > 500 * MIB, third < 300 * MIB) == (True, True, True)
    assert memory.kind(CPU) == "resident set of the process"


def test_where_the_mark_cannot_be_reset_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "PROC", tmp_path / "none")
    assert "since it started" in memory.kind(CPU)
    with memory.peak(CPU) as found:
        pass
    assert found.bytes > 50 * MIB, "what the process had at most, in bytes"


def test_on_cuda_it_is_the_allocator_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _device: log.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 100)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: log.append("read") or 250)
    with memory.peak(torch.device("cuda")) as found:
        log.append("body")
    assert (log, found.bytes, found.above) == (["reset", "body", "read"], 250, 150)
    assert memory.kind(torch.device("cuda")) == "CUDA allocator"
