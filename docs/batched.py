"""The tables of docs/batch.md: what a batch costs beside a plain loop, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Result = Mapping[str, Any]


def batched(result: Result) -> list[str]:
    """The ways, then the memory where it was measured."""
    return [*ways(result), *(held(result["memory"]) if "memory" in result else [])]


def ways(result: Result) -> list[str]:
    """One row a way: rows a second, and what it takes over the loop."""
    before, after = (result["load"][when][0] for when in ("before", "after"))
    lines = [
        f"{result['rows']} rows of {result['model']}, `{result['method']}` at keep={result['keep']}, "
        f"{result['batch']} at once, {result['new_tokens']} new tokens, one thread a process; warm, from the first "
        f"third on; medians (least to most) of {result['rounds']} interleaved rounds, ratios within a round.  "
        f"{result['cores']} cores ({result['machine']}{_shared(result)}, load {before} before, {after} after).  "
        f"torch {result['torch']}, transformers "
        f"{result['transformers']}, ray {result['ray']}.",
        "",
        "| way | rows a second | wall, over the loop | processor seconds a row | over the loop | driver and Ray |",
        "|---" * 6 + "|",
    ]
    for way, of in result["results"].items():
        around = f"{of['around']['median']:.3f}" if of["around"]["median"] else ""
        wall, own = (_over(result, way, what) for what in ("seconds", "processor"))
        cells = (f"{result['rows_a_second'][way]:.2f}", wall, _spread(of["processor"]), own, around)
        lines.append(f"| {' | '.join((way, *cells))} |")
    return lines


def _shared(result: Result) -> str:
    """Say what other work means for the numbers, where there was any."""
    if not result["shared"]:
        return ""
    return (
        "; shared with other work all the while: rows a second are below what the cores can do, two actors get two "
        "parts of them where one gets one, and the processor's seconds are disturbed least"
    )


def held(memory: Result) -> list[str]:
    """Resident sets along the way."""
    lines = [
        "",
        f"Memory over {memory['boards']:,} boards, each drawn for this and asked about once ({memory['model']}; "
        f"`{memory['method']}`); {memory['answered']:,} were answered.  Resident MiB:",
        "",
        "| rows | actor | driver |",
        "|---|---|---|",
    ]
    lines += [f"| {one['rows']:,} | {one['actor']:,.0f} | {one['driver']:,.0f} |" for one in memory["mib"]]
    return lines


def _spread(of: Mapping[str, float]) -> str:
    return f"{of['median']:.3f} ({of['min']:.3f} to {of['max']:.3f})"


def _over(result: Result, way: str, what: str) -> str:
    """The ratio to the loop, round by round."""
    pairs = zip(result["samples"][way][what], result["samples"]["loop"][what], strict=True)
    each = sorted(mine / loop for mine, loop in pairs)
    return f"{result['ratios'][f'{what}_over_loop'][way]:.2f} ({each[0]:.2f} to {each[-1]:.2f})"
