"""Tables of docs/systems/second.md and contrast.md: existence questions, false answers of "yes", and costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Result = Mapping[str, Any]


def scales(result: Result) -> list[str]:
    """SECOND beside the whole picture read once."""
    own = [name for name in result["results"] if name == "full" or name.startswith("second")]
    lines = [*_about(result), "", *_table(result, own), "", *_sorts(result, own), ""]
    lines += ["| way | tokens kept, stage by stage | entropy H | share p |", "|---|---|---|---|"]
    for name in own:
        one = result["results"][name]
        if "kept" in one:
            cells = (" + ".join(f"{x:.0f}" for x in one["kept"]), _list(one["entropy"]), _list(one["share"]))
            lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return lines


def budgets(result: Result) -> list[str]:
    """Contrast of many tokens and few."""
    own = [name for name in result["results"] if not name.startswith("second")]
    return [*_about(result), "", *_table(result, own), "", *_sorts(result, own)]


BLOCKS: dict[str, Callable[[Result], list[str]]] = {"second": scales, "contrast": budgets}


def _about(result: Result) -> Iterator[str]:
    count, time = result["scenes"], result["time"]
    yield (
        f'{count} held-out scenes, {result["questions"]:,} questions, half of the answers of each sort "yes"; '
        f"{result['threads']} CPU thread(s), torch {result['torch']}, transformers {result['transformers']}, the "
        f"model in {result['language_model']}.  In brackets 95 % bootstrap intervals by scene; differences are "
        "paired, and bold where the interval excludes 0.  Positions and passes are those of one question.  Time: "
        f"processor seconds from pixels to answer beside those of the untouched model, median of {time['prompts']} "
        "prompts, one at a time."
    )


def _table(result: Result, names: list[str]) -> Iterator[str]:
    """One row a way, all sorts together."""
    yield "| way | scenes | accuracy | difference | F1 | yes | false yes | positions | passes | time |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name in names:
        one, time = result["results"][name], result["time"]["over_full"].get(name)
        every = one["sorts"]["all"]
        low, high = every["difference95"]
        told = f"{every['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
        told = f"**{told}**" if low > 0 or high < 0 else told
        cells = (
            f"`{name}`",
            str(one["scenes"]),
            _spread(every, "accuracy", "interval95"),
            "" if one["against"] == name else f"{told} from `{one['against']}`",
            f"{every['f1']:.1f}",
            f"{every['yes']:.1f} %",
            _spread(every, "false_yes", "false_yes95") + " %",
            f"{one['positions']:,.0f}",
            f"{one['passes']:.1f}",
            "" if time is None else f"{time:.1f} x",
        )
        yield "| " + " | ".join(cells) + " |"


def _sorts(result: Result, names: list[str]) -> Iterator[str]:
    """Accuracy and F1 by sort of absent things."""
    sorts = [sort for sort in result["results"]["full"]["sorts"] if sort != "all"]
    yield "Accuracy / F1 / yes-rate by what the absent thing is:"
    yield ""
    yield "| way | " + " | ".join(sorts) + " |"
    yield "|---" * (len(sorts) + 1) + "|"
    for name in names:
        each = (result["results"][name]["sorts"][sort] for sort in sorts)
        yield (
            f"| `{name}` | " + " | ".join(f"{x['accuracy']:.1f} / {x['f1']:.1f} / {x['yes']:.0f}" for x in each) + " |"
        )


def _spread(one: Mapping[str, Any], what: str, interval: str) -> str:
    low, high = one[interval]
    return f"{one[what]:.1f} ({low:.1f} to {high:.1f})"


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
