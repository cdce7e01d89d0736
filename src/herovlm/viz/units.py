"""Numbers as a person reads them; the same in tables and on pages."""

from __future__ import annotations

import math
from collections.abc import Sequence


def seconds(value: float) -> str:
    """Write a time with three digits: "8.31 ms", "412 ms", "1.24 s"."""
    return _digits(value * 1e3) + " ms" if value < 1 else _digits(value) + " s"


def size(value: int) -> str:
    """Write a number of bytes in binary units with three digits: "640 B", "1.52 MiB"."""
    number, units = float(value), ["B", "KiB", "MiB", "GiB", "TiB"]
    while number >= 1024 and len(units) > 1:
        number, units = number / 1024, units[1:]
    return f"{value} B" if units[0] == "B" else f"{_digits(number)} {units[0]}"


def count(number: int, noun: str) -> str:
    """Write a number of things: "1 question", "1,200 questions"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def share(part: int, whole: int) -> str:
    """Write a share in per cent: "20 %", "3.4 %"."""
    percent = 100 * part / whole if whole else 0.0
    return f"{percent:.0f} %" if percent >= 9.95 or percent == 0 else f"{percent:.1f} %"


def positions(first: int, layers: Sequence[int] = ()) -> str:
    """Write a number of positions, and where it falls inside the LLM: "2,880", "54 → 27 → 14"."""
    falls = [n for n, before in zip(layers, (first, *layers), strict=False) if n != before]
    return " → ".join(f"{n:,}" for n in (first, *falls))


def number(value: float, digits: int = 3) -> str:
    """Write a score with so many digits that count: "0.257", "0.00031", "12.5"."""
    text = f"{value:.{digits}g}"
    return text if "e" not in text or abs(value) < 1e-4 else f"{value:,.0f}"


def alike(values: Sequence[float]) -> list[str]:
    """Write scores with the same number of decimals, so that they compare: "0.26", "0.00"."""
    most = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    decimals = max(0, 2 - math.ceil(math.log10(most))) if most else 0
    return [f"{value:.{decimals}f}" if decimals < 9 else f"{value:.2g}" for value in values]


def _digits(number: float) -> str:
    return f"{number:.2f}" if number < 9.995 else f"{number:.1f}" if number < 99.95 else f"{number:,.0f}"
