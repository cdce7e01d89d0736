"""Tables of what was measured on a GPU for docs/cost.md, from one committed result file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Result = Mapping[str, Any]
ALIKE = 1.05  # less than that many times faster is no gain
GIB = 2**30


def first(result: Result) -> list[str]:
    """Stages, ideal and arithmetic at every keep, and the tower at every batch."""
    columns = ("batch, keep", "positions", "vision", "selection", "prefill", "first token")
    lines = [about(result), "", *_head(*columns, "over the ideal", "`drop` over the tower", "faster", "in theory")]
    for name, rows in measured(result, "first_token"):
        for keep, row in rows.items():
            times = [_ms(row[stage]["median"]) for stage in ("vision", "selection", "prefill", "first_token")]
            over = [f"{row[what]:.2f}" for what in ("first_token_over_ideal", "drop_over_tower")]
            less = f"{row['in_theory']:.2f}x" if "in_theory" in row else ""
            cells = (name.removeprefix("batch "), keep)
            lines.append(_row(", ".join(cells), f"{row['positions']:,}", *times, *over, f"{row['faster']:.2f}x", less))
    return [*lines, *missing(result, "first_token")]


def answers(result: Result) -> list[str]:
    """Whole answers and peak memory, all positions beside a fifth; then where that does not pay."""
    whole = dict(measured(result, "answers"))
    lengths = list(dict.fromkeys(what for one in whole.values() for what in one["faster"]))
    words = [what.removeprefix("answer ") for what in lengths]
    lines = [
        about(result, rounds=False) + "  One run of each after a warm-up; seconds in full → by "
        f"`{result['method']}` at keep={result['keep']}, for answers of so many tokens.",
        "",
        *_head("", *(f"{n} token{'s' * (n != '1')}" for n in words), "each further token", "peak memory"),
    ]
    for name, one in whole.items():
        pair = (one["full"], one[result["method"]])
        told = [[each[what] for each in pair if what in each] for what in lengths]  # not all go to the longest answer
        cells = ["{:.2f} → {:.2f}".format(*some) if some else "" for some in told]
        tokens = "{:.1f} → {:.1f} ms".format(*(1e3 * each["decode"] for each in pair))
        memory = "{:.1f} → {:.1f} GiB".format(*(each["peak"] / GIB for each in pair))
        lines.append(_row(name, *cells, tokens, memory))
    return [*lines, *missing(result, "answers"), "", pays_not(result)]


def pays_not(result: Result) -> str:
    """Name the answers that dropping makes no faster."""
    found = []
    for name, one in measured(result, "answers"):
        for what, faster in one["faster"].items():
            if faster < ALIKE:
                words = f"{1 / faster:.2f} x slower" if faster < 1 / ALIKE else "as fast"
                found.append(f"{name}, {what.removeprefix('answer ')} tokens: {words}")
    if not found:
        return "**Where it does not pay:** nowhere among these answers."
    return f"**Where it does not pay** (beside the full model): {'; '.join(found)}."


def traffic(result: Result) -> list[str]:
    """What one `drop`, and the plain tower, give the device to do."""
    rows = dict(measured(result, "traffic"))
    kinds = list(dict.fromkeys(kind for one in rows.values() for kind in one["drop"]))
    names = {"launches": "kernel launches", "waits": "waits of the host"}
    columns = [names.get(kind, kind) for kind in kinds]
    lines = [f"One `drop` by `{result['method']}` → the plain tower.", "", *_head("", *columns)]
    for name, one in rows.items():
        lines.append(_row(name, *(f"{one['drop'][kind]:,} → {one['tower'][kind]:,}" for kind in kinds)))
    return [*lines, *missing(result, "traffic")]


def choosing(result: Result) -> list[str]:
    """Every method's choosing and rebuilding, quickest first."""
    rows = [(name, one["selection"]) for name, one in measured(result, "choosing")]
    head = [about(result), "", *_head("method", f"choosing at keep={result['keep']}")]
    half = [(name, of["median"], (of["max"] - of["min"]) / 2) for name, of in rows]
    return head + [_row(f"`{n}`", f"{_ms(middle)} ± {1e3 * by:.1f}") for n, middle, by in sorted(half, key=_second)]


BLOCKS = {"gpu_first": first, "gpu_answers": answers, "gpu_traffic": traffic, "gpu_choosing": choosing}


def about(result: Result, rounds: bool = True) -> str:
    """What it was measured on."""
    threads = f"{result['threads']} CPU thread{'s' * (result['threads'] > 1)}"
    where = f"{threads}, {result['clock']} time" if result["device"] == "cpu" else result["device"]
    shape = "the small shape" if result["small"] else result["shape"]
    how = f"; medians of {result['rounds']} interleaved rounds" if rounds else ""
    return (
        f"Random weights of {shape}, {result['dtype']}, {result['attention']}, {where}, torch {result['torch']}, "
        f"transformers {result['transformers']}{how}."
    )


def measured(result: Result, part: str) -> Iterator[tuple[str, Any]]:
    """Cells of a part that have numbers."""
    yield from ((name, one) for name, one in result.get(part, {}).items() if "error" not in one)


def missing(result: Result, part: str) -> list[str]:
    """Cells that have none, and why."""
    lost = [f"{name}: {one['error']}" for name, one in result.get(part, {}).items() if "error" in one]
    return ["", f"Not measured: {'; '.join(lost)}."] if lost else []


def _second(row: tuple[str, float, float]) -> float:
    return row[1]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f} ms"


def _head(*columns: str) -> list[str]:
    return [_row(*columns), "|" + "---|" * len(columns)]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
