"""Rounds are interleaved, the warm-up is not counted, and what is made of the numbers is right."""

from __future__ import annotations

import gc
from itertools import count

import pytest
import torch

from herovlm.cost import clock

CPU = torch.device("cpu")


def test_all_ways_take_turns_and_none_always_follows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.collect", lambda: 0)  # which takes its time where the suite has run before
    ran: list[str] = []
    numbers = count()

    def way(name: str) -> clock.Way:
        def run() -> dict[str, float]:
            ran.append(name)
            return {"number": next(numbers)}

        return run

    steps: list[str] = []
    found = clock.race({name: way(name) for name in "abc"}, rounds=20, warmup=2, step=steps.append)
    rounds = ["".join(ran[i : i + 3]) for i in range(0, len(ran), 3)]
    assert len(rounds) == 22
    assert {"".join(sorted(each)) for each in rounds} == {"abc"}
    assert {each[0] for each in rounds[2:]} == {*"abc"}
    assert len({pair for each in rounds[2:] for pair in (each[:2], each[1:])}) == 6
    assert steps == ran
    numbered = sorted(number for of in found.values() for number in of["number"])
    assert numbered == list(range(6, 66)), "the warm-up was counted"


def test_garbage_is_collected_between_the_runs_and_not_in_them() -> None:
    def run() -> dict[str, float]:
        return {"collecting": gc.isenabled()}

    assert clock.race({"a": run}, 2)["a"]["collecting"] == [False, False]
    assert gc.isenabled()

    def fails() -> dict[str, float]:
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        clock.race({"a": fails}, 2)
    assert gc.isenabled()


def test_one_function_is_timed_with_its_memory() -> None:
    found = clock.timed(lambda: torch.ones(2**26), CPU)()  # 256 MiB
    assert found["seconds"] > 0
    assert found["peak"] > found["above"] > 200 * 2**20


def test_spread_and_ratio() -> None:
    assert clock.spread([3, 1, 2, 10]) == {"median": 2.5, "min": 1, "max": 10}
    assert clock.ratio([2, 40, 6], of=[1, 10, 2]) == 3
    with pytest.raises(ValueError, match="zip"):
        clock.ratio([1], of=[1, 2])
