"""Tables of measured numbers for README.md, read from the committed result files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import batched
import contrasted
import costs
import fused
import incontext
import recalled
import spotted
import studied
import throughput
import tuned

from herovlm.eval import tables

RESULTS = Path(__file__).parents[1] / "benchmarks/results"
ORDER = ("hero", "hero_plus", "downsample", "uniform", "cls_topk", "random", "pool", "thumbnail")
SHOWN = ("full@1.0", *(f"{name}@0.2" for name in ORDER), "thumbnail@64")
ABOUT_INSIDE = (
    "Methods inside the LLM get the same mean number of positions over its layers; where that cannot be met there is "
    "no number.  A chain (+) sends what `keep` says and goes on from there: its mean is lower.  "
)
KINDS = ("fine", "reverse", "existence", "counting", "spatial")


def blocks() -> dict[str, Callable[[], list[str]]]:
    """Every block of measured numbers: its name -> what makes its lines, read when a page has the block."""
    return {
        "accuracy": lambda: [*answers(_read("demo_accuracy")), *by_kind(_read("demo_accuracy"))],
        "answers": lambda: answers(_read("demo_accuracy")),
        "neighbours": lambda: neighbours(_read("demo_neighbours"), _read("peers")),
        "inside": lambda: neighbours(_read("demo_inside"), _read("peers")),
        "best": lambda: neighbours(_read("demo_neighbours"), _read("peers"), best=4),
        "ablation": lambda: tuned.ablation(_read("ablation")),
        "parts": lambda: tuned.parts(_read("ablation")),
        "auto": lambda: tuned.promises(_read("auto")),
        "batch": _system("batch", batched.batched),
        "age_vlm": _cost("age_vlm", recalled.recalled),
        "chain_of_spot": _system("chain_of_spot", spotted.spotted),
        "caer-found": lambda: incontext.found(_read("caer")),
        "caer-budgets": lambda: incontext.budgets(_read("caer")),
        "igva": _system("igva", fused.accuracy),
        "igva-weights": _system("igva", fused.weights),
        "serving": _cost("serving", throughput.table),
        "question": _cost("question", throughput.question),
        **{name: _study(lines) for name, lines in studied.BLOCKS.items()},
        **{name: _cost(*how) for name, how in costs.BLOCKS.items()},
        **{f"{name} measured": _system("second", table) for name, table in contrasted.BLOCKS.items()},
    }


def _study(lines: Callable[[Mapping[str, Any]], list[str]]) -> Callable[[], list[str]]:
    """Make what the study of the demo model says."""
    return lambda: lines(_read("study"))


def _cost(name: str, table: Callable[[Mapping[str, Any]], list[str]]) -> Callable[[], list[str]]:
    """Make a table of one benchmark, or say how to measure it."""
    missing = [f"Not measured yet: `python benchmarks/{name}.py --json benchmarks/results/{name}.json`."]

    def lines() -> list[str]:
        found = _read(name) if (RESULTS / f"{name}.json").exists() else {}
        return table(found) if "device" in found else missing  # older files do not say all that the table needs

    return lines


def _system(name: str, table: Callable[[Mapping[str, Any]], list[str]]) -> Callable[[], list[str]]:
    """Make the table of a system, or say how to measure it."""
    missing = [f"Not measured yet: `python benchmarks/{name}.py --json benchmarks/results/{name}.json`."]
    return lambda: table(_read(name)) if (RESULTS / f"{name}.json").exists() else missing


def answers(result: Mapping[str, Any]) -> list[str]:
    """Exact match by method and keep, with the interval of each."""
    configs = result["configs"]
    keeps = _keeps(configs)
    full = configs["full@1.0"]
    lines = [
        f"Exact match in percent on {full['scenes']:,} held-out scenes ({full['questions']:,} questions), "
        f"95 % bootstrap intervals in brackets.  The full model, {result['mean_positions_full']:.0f} visual positions "
        f"on average: **{_cell(full)}**.",
        "",
        "| method | " + " | ".join(f"keep={keep}" for keep in keeps) + " |",
        "|---|" + "---|" * len(keeps),
    ]
    for name in ORDER:
        cells = [_cell(configs.get(f"{name}@{keep}")) for keep in keeps]
        if any(cells):
            lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return lines


def by_kind(result: Mapping[str, Any]) -> list[str]:
    """Exact match by kind of question."""
    configs = result["configs"]
    lines = ["", "By kind of question:", "", "| | " + " | ".join(KINDS) + " |", "|---|" + "---|" * len(KINDS)]
    for name in SHOWN:
        if name in configs:
            lines.append(f"| `{name}` | " + " | ".join(f"{_kinds(configs[name])[kind]:.1f}" for kind in KINDS) + " |")
    if "thumbnail@64" in configs:
        lines += ["", "`thumbnail@64` is the whole thumbnail and nothing else."]
    return lines


def neighbours(result: Mapping[str, Any], cost: Mapping[str, Any], best: int | None = None) -> list[str]:
    """Exact match of every method, or of the best and random, best first at keep=0.2, and what choosing costs."""
    configs, full = result["configs"], result["configs"]["full@1.0"]
    keeps, shape = _keeps(configs), cost["image"]
    seconds = cost["selection"] if "device" in cost else {}  # an older file timed other code
    names = list(dict.fromkeys(name.rpartition("@")[0] for name in configs if name != "full@1.0"))
    at = {name: configs.get(f"{name}@0.2", {"accuracy": -1.0})["accuracy"] for name in names}
    scenes, half = (
        f"{full['scenes']:,} held-out scenes ({full['questions']:,} questions",
        _half(next(of for name, of in configs.items() if name.endswith("@0.2"))),
    )
    image = f"{shape['tiles']} tiles of {shape['patches']} patches with {shape['channels']:,} channels"
    choosing = f"Choosing: median time to select at keep=0.2, one image of {image}, {costs.threads(cost)}."
    inside = ABOUT_INSIDE if any("+" in name for name in names) else ""
    lines = [
        f"Exact match in percent on {scenes}; 95 % intervals are about +/-{half:.1f}); the full model: "
        f"**{full['accuracy']:.1f}**.  {_legend(configs)}{inside}{choosing if seconds else ''}".rstrip(),
        "",
        "| method | " + " | ".join([f"keep={keep}" for keep in keeps] + ["choosing, ms"] * bool(seconds)) + " |",
        "|---|" + "---|" * (len(keeps) + bool(seconds)),
    ]
    for rank, name in enumerate(sorted(names, key=lambda name: -at[name])):
        if best is not None and rank >= best and name not in ("hero", "hero_plus", "random"):
            continue
        cells = [_marked(configs.get(f"{name}@{keep}")) for keep in keeps]
        chosen = f"{1e3 * seconds[name]['median']:.1f}" if name in seconds else ""
        lines.append(f"| `{name}` | " + " | ".join(cells + [chosen] * bool(seconds)) + " |")
    return lines


def _keeps(configs: Mapping[str, Any]) -> list[str]:
    """Shares below 1 in the names of configurations, largest first."""
    found = {name.rpartition("@")[2] for name in configs}
    return sorted((keep for keep in found if keep.startswith("0.") and ":" not in keep), key=float, reverse=True)


def _cell(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return ""
    low, high = summary["interval95"]
    return f"{summary['accuracy']:.1f} [{low:.1f}, {high:.1f}]"


def _kinds(summary: Mapping[str, Any]) -> Mapping[str, float]:
    """Score by kind of question; older files have them among the rest."""
    kinds: Mapping[str, float] = summary.get("kinds", summary)
    return kinds


def _legend(configs: Mapping[str, Any]) -> str:
    """Explain the marks, where there are any."""
    marked = " ".join(_marked(summary) for summary in configs.values())
    signs = " ".join(text for text in marked.split() if not text[0].isdigit())
    words = tables.ASCII.legend(signs, tables.reference(configs))
    return f"{words} (paired tests over scenes, Holm, 5 %).  " if words else ""


def _marked(summary: Mapping[str, Any] | None) -> str:
    """A score, and what its difference from hero and random is worth; older files do not say."""
    return "" if summary is None else tables.cell({"against": {}, **summary}, tables.ASCII, intervals=False)


def _half(summary: Mapping[str, Any]) -> float:
    low, high = summary["interval95"]
    return float(high - low) / 2


def _read(name: str) -> Any:
    """A result file; of the summary of `herovlm report`, the first table with what stands around it."""
    result = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return {**result, **result["tables"][0]} if "tables" in result else result
