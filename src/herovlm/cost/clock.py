"""Races: a warm-up, then interleaved rounds, so that what disturbs a round disturbs all ways."""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable, Mapping, Sequence

import torch

from herovlm.clock import Clock
from herovlm.cost.memory import peak

Way = Callable[[], Mapping[str, float]]  # one run, and what was measured in it
Samples = dict[str, list[float]]  # what was measured -> one value a round


def timed(run: Callable[[], object], device: torch.device) -> Way:
    """Measure one function: "seconds", "peak" bytes, and bytes "above" what was held before."""
    clock = Clock(device)

    def way() -> dict[str, float]:
        with peak(device) as memory:
            marks = [clock.start()]
            run()
            marks.append(clock.mark())
            (seconds,) = clock.seconds(marks)
        return {"seconds": seconds, "peak": memory.bytes, "above": memory.above}

    return way


def race(
    ways: Mapping[str, Way],
    rounds: int,
    warmup: int = 1,
    step: Callable[[str], None] | None = None,
    lost: dict[str, Exception] | None = None,
) -> dict[str, Samples]:
    """Run all ways, round after round, each in an order of its own: way -> what -> one value a round.

    The orders are drawn (always the same ones), so that no way has the same one before it every time: what a large run
    leaves behind, a warm processor or memory handed back, would otherwise be another's cost.

    Args:
        ways: name -> one run.
        rounds: rounds that count.
        warmup: rounds before them that do not.
        step: told the name of each way before it runs.
        lost: takes the error of each way that fails, which is then left out; without it an error ends the race.
    """
    found: dict[str, Samples] = {name: {} for name in ways}
    names, orders = list(ways), random.Random(0)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(-warmup, rounds):
            gc.collect()
            for name in orders.sample(names, len(names)):
                if step is not None:
                    step(name)
                try:
                    measured = ways[name]()
                except Exception as error:
                    if lost is None:
                        raise
                    lost[name] = error.with_traceback(None)  # which would hold on to memory
                    names.remove(name)
                    del found[name]
                    continue
                if number >= 0:
                    for what, value in measured.items():
                        found[name].setdefault(what, []).append(value)
    finally:
        if collecting:
            gc.enable()
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and both ends."""
    return {name: round(of(values), 6) for name, of in (("median", statistics.median), ("min", min), ("max", max))}


def ratio(values: Sequence[float], of: Sequence[float]) -> float:
    """Median over the rounds of one value over the other, so that noise that hits a round hits both."""
    return round(statistics.median(a / b for a, b in zip(values, of, strict=True)), 4)
