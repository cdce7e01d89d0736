"""Finding 2 in numbers: does the CLS token turn from objects to high-norm background on its way up?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from herovlm.eval.records import Record
from herovlm.methods.base import resolve
from herovlm.study.layers import Suggestion, suggest_layers
from herovlm.study.measure.roles import DEFAULT
from herovlm.study.summary import numbers, verdict
from herovlm.study.summary.numbers import Floats, Number

PARTS = ("thumbnail", "local")
BY_BLOCK = ("entropy", "norm", "foreground", "background_norm", "area")
EXAMPLES = 2  # pictures whose maps are drawn
FINDING = "CLS attention goes from objects, in early blocks, to patches with large norms, in late ones"


def suggestion(lines: Sequence[Record]) -> Suggestion | None:
    """Suggest blocks by the records of attention: by local tiles, by the thumbnail where there are none."""
    some = [_part(line) for line in lines]
    return suggest_layers(np.array([part["overlap"] for part in some]), np.array([part["norm"] for part in some]))


def summarise(lines: Sequence[Record]) -> dict[str, Any]:
    """Sum up the records of attention."""
    found: dict[str, Any] = {"pictures": len(lines), "parts": {}}
    for part in PARTS:
        own = [line for line in lines if part in line]
        if own:
            found["parts"][part] = _blocks([line[part] for line in own])
    suggested = suggestion(lines)
    depth = len(_part(lines[0])["norm"]) if lines else 0
    found["depth"] = depth
    found["defaults"] = {stage: list(resolve(of, depth)) if depth else [] for stage, of in DEFAULT.items()}
    found["suggested"] = None if suggested is None else suggested.as_dict()
    found["stages"] = {} if suggested is None else stages(lines, suggested.switch)
    maps = [{"picture": line["picture"], **line["maps"]} for line in lines if "maps" in line]
    found["maps"] = sorted(maps, key=lambda one: (-min(one["grid"]), max(one["grid"])))[:EXAMPLES]  # squarest first
    return {**found, "verdict": judged(found["stages"], suggested)}


def stages(lines: Sequence[Record], switch: int) -> dict[str, dict[str, Number]]:
    """Compare the blocks before and from the switch: their means, and the difference picture by picture."""
    found: dict[str, dict[str, Number]] = {}
    for name in ("foreground", "norm", "background_norm", "entropy"):
        rows = {line["picture"]: np.array(_part(line).get(name) or [None], dtype=np.float64) for line in lines}
        rows = {picture: row for picture, row in rows.items() if np.isfinite(row).all()}
        early = {picture: [row[:switch].mean()] for picture, row in rows.items()}
        late = {picture: [row[switch:].mean()] for picture, row in rows.items()}
        rise = {picture: [late[picture][0] - early[picture][0]] for picture in rows}
        if rows:
            found[name] = {"early": numbers.mean(early), "late": numbers.mean(late), "rise": numbers.mean(rise)}
    return found


def judged(stages: dict[str, dict[str, Number]], suggested: Suggestion | None) -> dict[str, Any]:
    """Write the sentence of this finding; of pictures whose foreground nobody knows only the norms are judged."""
    if suggested is None or "norm" not in stages:
        return verdict.verdict(FINDING, [], "the vision tower has too few blocks, or no picture was measured")
    rise = stages["norm"]["rise"]
    claims, told = [rise], [f"the norm rank of what is looked at by {verdict.spell(rise, sign=True)} (it should rise)"]
    if "foreground" in stages:
        rise = stages["foreground"]["rise"]
        claims.append(negative(rise))
        told.insert(0, f"attention on the foreground by {verdict.spell(rise, sign=True)} (it should fall)")
    where = f"between the blocks before block {suggested.switch} and those from there on changes "
    return verdict.verdict(FINDING, claims, where + " and ".join(told))


def negative(number: Number) -> Number:
    """Turn a rise into a fall."""
    if number["value"] is None:
        return number
    return {"value": -number["value"], "low": -number["high"], "high": -number["low"], "n": number["n"]}


def _part(line: Record) -> dict[str, Any]:
    part: dict[str, Any] = line.get("local") or line["thumbnail"]
    return part


def _blocks(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over pictures, block by block; what nobody knows is left out."""
    found: dict[str, Any] = {"overlap": _rounded(np.mean([part["overlap"] for part in parts], axis=0))}
    for name in BY_BLOCK:
        rows: Floats = np.array([part[name] for part in parts if name in part], dtype=np.float64)
        rows = rows[np.isfinite(rows).all(1)] if len(rows) else rows
        if len(rows):
            found[name] = _rounded(rows.mean(0))
    return found


def _rounded(values: Floats) -> list[Any]:
    listed: Any = np.round(values, numbers.DIGITS).tolist()
    return list(listed)
