"""A table of a summary as curves: the score over the share of visual positions that the language model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from herovlm.eval.plan import FULL
from herovlm.eval.tables import incomplete, label, title
from herovlm.extras import require

Config = Mapping[str, Any]
COLOURS = ("#d1495b", "#2a9d8f", "#e09f3e", "#7b5ea7", "#5a8f29", "#c2569b", "#8a6d3b", "#3d8fb5", "#a33b20", "#5c6b73")
HERO, RANDOM, FAINT = "#1f4e8c", "#8c8c8c", "#00000014"
MARKERS = "svD^Pp*X<>"
FEW, MANY = 5, 22  # with more curves, only hero and random show intervals; with many, names are small
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "herovlm"}
STYLE |= {"svg.fonttype": "none"}


def draw(table: Mapping[str, Any], target: Path) -> tuple[Path, Path]:
    """Draw the curves of one table, and the same for each kind of question, as `target`.png and `target`.svg.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = require("matplotlib", extra="eval")
    figures = require("matplotlib.figure", extra="eval")
    kinds = list(dict.fromkeys(kind for config in table["configs"].values() for kind in config["kinds"]))
    kinds = kinds if len(kinds) > 1 else []
    with matplotlib.rc_context(STYLE):
        figure = figures.Figure(figsize=(9, 5.2 + 2.1 * bool(kinds)), layout="constrained")
        main, small = figure.subfigures(2, 1, height_ratios=(5.2, 2.1)) if kinds else (figure, None)
        axes = main.subplots()
        styles = _styles(curves(table))
        for name, points in curves(table).items():
            _curve(axes, points, styles[name], name, "accuracy", bands=len(styles) <= FEW or name in ("hero", "random"))
        _frame(axes, table, "accuracy")
        axes.set_title(title(table), loc="left", fontweight="bold")
        axes.set_ylabel(table["metric"])
        axes.set_xlabel("visual positions that the language model reads, percent")
        size = "medium" if len(styles) <= MANY else "x-small"
        main.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=size)
        if small is not None:
            _kinds(small, table, kinds, styles)
        paths = target.with_name(f"{target.name}.png"), target.with_name(f"{target.name}.svg")
        figure.savefig(paths[0], dpi=160)
        figure.savefig(paths[1], metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return paths


def curves(table: Mapping[str, Any]) -> dict[str, list[Config]]:
    """Group configurations into curves, fewest positions first; the best curve comes first, one with gaps last."""
    found: dict[str, list[Config]] = {}
    for name, config in table["configs"].items():
        if name != FULL and not incomplete(table, name):
            found.setdefault(label(config), []).append(config)
    order = sorted(found, key=lambda name: (-len(found[name]), -sum(c["accuracy"] for c in found[name])))
    return {name: sorted(found[name], key=lambda c: float(c["mean_positions"])) for name in order}


def _styles(names: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give hero a strong line, random a grey one, and every other curve a colour and a marker of its own."""
    looks = zip(cycle(COLOURS), (m for m in cycle(MARKERS) for _ in COLOURS), strict=False)
    styles: dict[str, dict[str, Any]] = {}
    for name in names:
        if name == "hero":
            styles[name] = {"color": HERO, "marker": "o", "linewidth": 2.6, "zorder": 5}
        elif name == "random":
            styles[name] = {"color": RANDOM, "marker": ".", "linewidth": 1.6, "linestyle": "--", "zorder": 4}
        else:
            colour, marker = next(looks)
            styles[name] = {"color": colour, "marker": marker, "linewidth": 1.2, "markersize": 4.5, "zorder": 3}
    return styles


def _curve(axes: Any, points: Sequence[Config], style: Any, name: str, what: str, *, bands: bool) -> None:
    shares = [100 * config["mean_positions"] / config["of"] for config in points]
    scores = [config[what] if what == "accuracy" else config["kinds"].get(what) for config in points]
    axes.plot(shares, scores, label=name, **style)
    if bands and what == "accuracy":
        low, high = zip(*(config["interval95"] for config in points), strict=True)
        axes.fill_between(shares, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _frame(axes: Any, table: Mapping[str, Any], what: str) -> None:
    """Draw the full model as a line, and a logarithmic axis with a tick at every budget."""
    full = table["configs"].get(FULL)
    if full is not None:
        score = full["accuracy"] if what == "accuracy" else full["kinds"].get(what)
        axes.axhline(score, color="black", linewidth=1, linestyle=":", label="full", zorder=2)
    ticks = sorted(
        {100 * c["keep"] for c in table["configs"].values() if isinstance(c["keep"], float) and c["keep"] < 1}
    )
    axes.set_xscale("log")
    axes.set_xticks(ticks or axes.get_xticks(), [f"{tick:g}" for tick in ticks] or None)
    axes.minorticks_off()
    axes.set_ylim(top=102, bottom=min(0.0, axes.get_ylim()[0]) if axes.get_ylim()[0] < 15 else None)
    axes.grid(axis="y", color=FAINT)


def _kinds(figure: Any, table: Mapping[str, Any], kinds: Sequence[str], styles: Mapping[str, Any]) -> None:
    """Draw a small panel for each kind of question."""
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        for name, points in curves(table).items():
            _curve(axes, points, {**styles[name], "markersize": 2.5}, name, kind, bands=False)
        _frame(axes, table, kind)
        axes.set_title(kind, fontsize=9)
        axes.set_ylim(0, 105)
        axes.tick_params(labelsize=7)
