"""Tables of docs/ablation.md: what fields and parts of HERO are worth, and what `keep="auto"` promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

Result = Mapping[str, Any]
BASE, HERO = "hero_plus", "hero, as it is"


def ablation(result: Result) -> list[str]:
    """Every field, one value at a time."""
    names = [name for name in result["variations"] if "=" in name]
    fields = list(dict.fromkeys(name.partition("=")[0] for name in names))
    lines = [
        f"Accuracy in percent on {result['scenes']} development scenes ({result['questions']:,} questions); the full "
        f"model: {result['full']:.1f}.  In brackets the difference from `{BASE}` on the same scenes; bold where its "
        "95 % bootstrap interval excludes 0.",
        "",
        *_head(result, "field", "value"),
        _row(result, BASE, f"`{BASE}`", "as it is"),
    ]
    for field in fields:
        for name in names:
            if name.startswith(f"{field}="):
                lines.append(_row(result, name, f"`{field}`", f"`{name.partition('=')[2]}`"))
    return lines


def parts(result: Result) -> list[str]:
    """HERO without one of its parts, as the paper has it and with our two rules."""
    lines = list(_head(result, "", "method"))
    for method in ("hero", BASE):
        for name in result["variations"]:
            if name.startswith(f"{method}, "):
                beside = HERO if method == "hero" else BASE
                lines.append(_row(result, name, name.partition(", ")[2], f"`{method}`", beside))
        if method == "hero":
            lines.append(_row(result, BASE, "as it is", f"`{BASE}`", BASE))
    return lines


def promises(result: Result) -> list[str]:
    """What was promised, what was lost, and what a fixed share of the same size would have lost."""
    found = result["held_out"]
    shares = sorted((one["mean_keep"], one["loss"]) for name, one in found.items() if name.startswith("share"))
    lines = [
        f"{result['scenes']} development scenes to calibrate, {result['scenes']} held-out scenes "
        f"({result['questions']:,} questions) to test.",
        "",
        "| promised loss | lost | 95 % interval | mean keep | a fixed share of that size loses |",
        "|---|---|---|---|---|",
    ]
    for name, one in found.items():
        if name.startswith("loss "):
            low, high = one["interval95"]
            fixed = _between(shares, one["mean_keep"])
            told = f"{100 * low:.1f} to {100 * high:.1f}"
            promised = 100 * float(name.removeprefix("loss "))
            cells = (f"{promised:.0f} %", f"{100 * one['loss']:.1f} %", told, f"{one['mean_keep']:.2f}", fixed)
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _between(shares: list[tuple[float, float]], keep: float) -> str:
    """Loss of a fixed share, interpolated."""
    for (low, more), (high, less) in pairwise(shares):
        if low <= keep <= high:
            return f"{100 * (more + (less - more) * (keep - low) / (high - low)):.1f} %"
    return ""


def _head(result: Result, *columns: str) -> Iterator[str]:
    keeps = [f"keep={keep}" for keep in result["variations"][BASE]]
    yield "| " + " | ".join([*columns, *keeps]) + " |"
    yield "|---" * (len(columns) + len(keeps)) + "|"


def _row(result: Result, name: str, *about: str) -> str:
    """A line; an extra last word of `about` names what the differences are from, where it is not the base."""
    keeps = result["variations"][BASE]
    about, beside = (about[:2], about[2]) if len(about) > 2 else (about, BASE)
    cells = [_cell(result, name, beside, keep) for keep in keeps]
    return "| " + " | ".join([*about, *cells]) + " |"


def _cell(result: Result, name: str, beside: str, keep: str) -> str:
    one = result["variations"][name].get(keep)
    if one is None:
        return ""
    if name == beside:
        return f"{one['accuracy']:.1f}"
    change = one["against"][beside]
    (low, high), told = change["difference95"], f"{change['difference']:+.1f}"
    return f"{one['accuracy']:.1f} ({f'**{told}**' if low > 0 or high < 0 else told})"
