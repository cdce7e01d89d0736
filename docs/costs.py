"""Tables of measured cost for docs/cost.md and README.md, each from one committed result file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import on_gpu
from narrowed import narrow

MIB = 2**20
Result = Mapping[str, Any]
WAYS = {
    "tower": "vision tower, nothing recorded",
    "signals": "the same, with the signals of `{method}` and its selection",
    "drop": "as `herovlm.drop` does it: the end that nobody reads is left out",
    "authors": "as the authors' code does it",
}


def seeing(result: Result) -> list[str]:
    """Time and memory of the four ways to see."""
    lines = [_measured(result, layers=False), "", *_head("", "dtype", "time", "over the tower", "memory above")]
    for dtype, ways in result["results"].items():
        for way, about in WAYS.items():
            over = result["ratios"][dtype].get(f"{way}_over_tower", 1)
            memory = f"{ways[way]['above']['median'] / MIB:,.0f} MiB"
            lines.append(
                _row(about.format(method=_method(result)), dtype, _seconds(ways[way]["seconds"]), f"{over:.3f}", memory)
            )
    return lines


def first_token(result: Result) -> list[str]:
    """A method beside the ideal, and the speed-up, at every keep."""
    ratios, results = result["ratios"], result["results"]
    columns = ("keep", "positions", "vision", "selection", "prefill", "first token", "ideal", "over the ideal")
    lines = [_measured(result), "", *_head(*columns, "faster", "in theory")]
    for keep, over in ratios["first_token_over_ideal"].items():
        stages, ideal = results[f"{_method(result)}@{keep}"], results[f"ideal@{keep}"]
        times = [_seconds(stages[stage]) for stage in ("vision", "selection", "prefill", "first_token")]
        faster = [f"{ratios[name][keep]:.2f}x" for name in ("speedup", "speedup_in_theory")]
        positions = f"{result['theory'][keep]['positions']:,}"
        lines.append(_row(keep, positions, *times, _seconds(ideal["first_token"]), f"{over:.3f}", *faster))
    return lines


def peers(result: Result) -> list[str]:
    """Every method's selection and first token, quickest first token first."""
    base = result.get("base", "hero")
    ratios = result["ratios"][f"first_token_over_{base}"]
    lines = [_measured(result), "", *_head("method", "selection", "first token", f"over `{base}`")]
    for name, first in sorted(result["first_token"].items(), key=lambda pair: ratios[pair[0]]):
        lines.append(_row(f"`{name}`", _seconds(result["selection"][name]), _seconds(first), f"{ratios[name]:.2f}"))
    return lines


def memory(result: Result) -> list[str]:
    """Cache and peak memory at every keep."""
    exact = "equal, byte for byte" if result["exact"] else "NOT equal"
    about = (
        f"{_measured(result)}  {result['new_tokens']} new tokens; {result['memory']}.  Cache and arithmetic: {exact}."
    )
    lines = [
        about,
        "",
        *_head("keep", "positions at the end", "KV cache", "by arithmetic", "peak", "above the weights"),
    ]
    for keep, one in result["results"].items():
        sizes = [f"{one[name]:,} B" for name in ("cache_bytes", "cache_bytes_in_theory")]
        sizes += [f"{one[name] / MIB:,.0f} MiB" for name in ("peak_bytes", "above_bytes")]
        lines.append(_row(keep, f"{one['positions']:,}", *sizes))
    return lines


def growth(result: Result) -> list[str]:
    """Selection over tiles and over images."""
    lines = [_measured(result, layers=False), "", *_head("", "selection")]
    lines += [_row(name, _seconds(of["seconds"])) for name, of in result["results"].items()]
    lines += ["", *_head("", "each one more", "fixed", "R² of the line", "exponent")]
    for kind, fit in result["fits"].items():
        name = {"tiles": "tiles of one image", "batch": "images of 5 tiles"}[kind]
        fixed = [f"{1e3 * fit[part]:.2f} ms" for part in ("slope_s", "intercept_s")]
        lines.append(_row(name, *fixed, f"{fit['r_squared']:.3f}", f"{fit['exponent']:.2f}"))
    return lines


BLOCKS = {  # name of the block in a page -> result file, lines
    "seeing": ("signals", seeing),
    "first_token": ("first_token", first_token),
    "peers": ("peers", peers),
    "memory": ("memory", memory),
    "growth": ("growth", growth),
    "narrow": ("narrow", narrow),
    **{name: ("gpu", table) for name, table in on_gpu.BLOCKS.items()},
}


def _measured(result: Result, layers: bool = True) -> str:
    """What it was measured on."""
    small = "the small shape, " if result["small"] else f"{result['shape']}, "
    few = result["llm_layers"]
    depth = f"{few or 'all'} LLM layer{'s' * (few != 1)}, " if layers else ""
    dtype = f"{result['dtype']}, {result['attention']}, " if layers else ""
    where = threads(result) if result["device"] == "cpu" else result["device"]
    rounds = f"medians of {result['rounds']} interleaved rounds" if result["rounds"] > 1 else "one round"
    weights = f"`{result['method']}`; random" if "method" in result else "Random"
    return f"{weights} weights of {small}{depth}{dtype}{where}, torch {result['torch']}; {rounds}."


def threads(result: Result) -> str:
    """What of a CPU was measured on, and whose time; older files say nothing of that, it was the wall's."""
    count = result["threads"]
    own = ", its own time" if result.get("clock") == "processor" else ""
    return f"{count} CPU thread{'s' * (count != 1)}{own}"


def _method(result: Result) -> str:
    """The method that was measured."""
    return str(result.get("method", "hero"))


def _head(*columns: str) -> list[str]:
    return [_row(*columns), "|" + "---|" * len(columns)]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _seconds(of: Mapping[str, float]) -> str:
    """Median and half the range, where there is more than one round."""
    median, half = of["median"], (of["max"] - of["min"]) / 2
    scale, unit, digits = (1, "s", 2) if median >= 1 else (1e3, "ms", 1)
    return f"{scale * median:.{digits}f} {unit}" + (f" ± {scale * half:.{digits}f}" if half else "")
