"""The numbers of a study as tables, for the page, the terminal and the documentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from herovlm.study.measure.probes import PICKED
from herovlm.study.measure.roles import KEEPS
from herovlm.study.summary.roles import WAYS
from herovlm.study.summary.verdict import spell
from herovlm.viz import units

Found = Mapping[str, Any]  # a finding, as summaries give it
SCORES = {"saliency": "saliency", "relevance": "relevance", "density": "density", "weight": "HERO's weight"}
STAGES = {
    "foreground": "attention on the foreground",
    "norm": "norm rank of what is looked at",
    "background_norm": "the same in the background",
    "entropy": "entropy",
}


@dataclass(frozen=True)
class Table:
    """A table of texts."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def tiles(found: Found) -> list[Table]:
    """Tables of finding 1."""
    scores = found["scores"]
    kinds = list(scores["weight"]["kinds"])
    columns = [
        "score",
        "within picture and question",
        "all tiles pooled",
        "pooled, with accuracy",
        "finds the first tile",
    ]
    names = ("within", "pooled", "pooled_accuracy", "finds")
    rows = [[label, *(spell(scores[key][name]) for name in names)] for key, label in SCORES.items()]
    tables = [Table("Rank correlation with the true importance of a tile", columns, rows)]
    if kinds:
        by_kind = [[label, *(spell(scores[key]["kinds"][k]) for k in kinds)] for key, label in SCORES.items()]
        tables.append(Table("Within picture and question, by kind of question", ["score", *kinds], by_kind))
    return tables


def attention(found: Found) -> list[Table]:
    """Tables of finding 2."""
    stages, suggested = found["stages"], found["suggested"]
    layers = [["HERO's defaults", *(_blocks(found["defaults"][stage]) for stage in ("early", "late")), ""]]
    if suggested:
        blocks = [_blocks(suggested[name]) for name in ("low", "high")]
        layers.append(["suggested", *blocks, f"{suggested['confidence']:.2f}"])
    columns = ["", "low, for local tiles", "high, for the thumbnail", "confidence"]
    tables = [Table("Blocks to choose tokens by", columns, layers)]
    if suggested:
        switch = suggested["switch"]
        columns = ["mean over blocks", f"before block {switch}", f"from block {switch}", "rise"]
        rows = [
            [label, *(spell(stages[name][stage], sign=stage == "rise") for stage in ("early", "late", "rise"))]
            for name, label in STAGES.items()
            if name in stages
        ]
        tables.append(Table("Early and late blocks", columns, rows))
    return tables


def roles(found: Found) -> list[Table]:
    """Tables of finding 3."""
    tables = []
    for pair, values in found["pairs"].items():
        for what, title in (("log", "Log-likelihood of the right answer"), ("accuracy", "Accuracy")):
            kinds = list(found["full"]["kinds"])
            rows = [["full model", *_scores(found["full"], what, kinds)]]
            for keep in KEEPS:
                for way in WAYS:
                    scores = values["ways"][f"{'/'.join(way)}@{keep}"]
                    rows.append([f"{' / '.join(way)}, keep={keep}", *_scores(scores, what, kinds)])
            tables.append(Table(f"{title}, {pair} blocks", ["thumbnail / local tiles by", "all", *kinds], rows))
    for pair, values in found["probes"].items():
        rows = [[found["probe_titles"][name], *(_probe(of[how]) for how in PICKED)] for name, of in _probed(values)]
        columns = ["read from single tokens", *(f"{how}-picked" for how in PICKED)]
        tables.append(Table(f"Linear probes, {pair} blocks", columns, rows))
    return tables


TABLES: dict[str, Callable[[Found], list[Table]]] = {"tiles": tiles, "attention": attention, "roles": roles}


def notes(name: str, found: Found) -> list[str]:
    """Explain what has to be known about the numbers of a finding."""
    if name == "tiles":
        return _about_tiles(found)
    if name == "attention":
        return _about_attention(found)
    lines = [f"{units.count(found['questions'], 'question')} about {units.count(found['pictures'], 'picture')}."]
    if not found["probes"]:
        lines.append("There are no probes: they need drawn scenes, of which it is known what stands in every patch.")
    for pair, values in found["probes"].items():
        of = values["layers"]
        lines.append(
            f"The {pair} blocks: early {_blocks(of['early'])}, late {_blocks(of['late'])} (below 1: relative depths).  "
            f"Of the tokens that the early ones pick, the late ones pick {values['shared']:.0%} too.  Probes: the "
            f"{values['picture']} pictures."
        )
    return lines


def _about_tiles(found: Found) -> list[str]:
    if not found["questions"]:
        return ["No picture has two local tiles or more, so there is nothing to compare."]
    differ = found["differ"]
    return [
        f"{units.count(found['questions'], 'question')} about {units.count(found['pictures'], 'picture')} with "
        "at least two local tiles; "
        "where a score is the same for all tiles of a picture, the question is left out of its mean within pictures.",
        f"Without its most important tile an answer loses {spell(differ['most'])} of its log-likelihood, without the "
        f"least important one {spell(differ['least'])}; accuracy falls from {spell(differ['accuracy'])} to "
        f"{spell(differ['accuracy_without_most'])} and {spell(differ['accuracy_without_least'])}.",
        f"The first tile is the most important one; by chance a score finds it in a share of {spell(found['chance'])}.",
    ]


def _about_attention(found: Found) -> list[str]:
    lines = [f"{found['pictures']:,} pictures; early and late blocks are compared on local tiles where there are some."]
    if "foreground" not in found["stages"]:
        lines.append("The foreground of these pictures is not known, so its rows are left out.")
    if found["suggested"]:
        s = found["suggested"]
        lines.append(
            f"The switch lies before block {s['switch']} (mean silhouette {s['silhouette']:.2f}); {s['agreement']:.0%} "
            "of bootstrap samples put it there, a block more or less, and look at larger norms behind it."
        )
    return lines


def _probed(values: Found) -> list[tuple[str, Found]]:
    return [(name, of) for name, of in values["probes"].items() if any(of.values())]


def _scores(scored: Found, what: str, kinds: list[str]) -> list[str]:
    return [spell(scored[what]), *(spell(scored["kinds"][kind][what]) for kind in kinds)]


def _probe(scored: Found | None) -> str:
    if scored is None:
        return "too few tokens"
    return spell({"value": scored["score"], "low": scored["low"], "high": scored["high"]})


def _blocks(blocks: list[Any]) -> str:
    return ", ".join(map(str, blocks)) or "none"
