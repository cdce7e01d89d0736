"""The report of a study in a folder: study.json, the figures, and one page that needs nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from herovlm.errors import UsageError
from herovlm.eval.samples import Asked
from herovlm.study import tables
from herovlm.study.figures import attention, roles, tiles
from herovlm.study.figures.base import Drawn
from herovlm.templates import environment

if TYPE_CHECKING:
    from PIL import Image

Study = Mapping[str, Any]
TITLES = {
    "tiles": "Tiles differ in importance",
    "attention": "CLS attention has two stages",
    "roles": "Tokens of the two stages play complementary roles",
}


def write(study: Study, asked: Asked, folder: Path) -> Path:
    """Write study.json, the figures as PNG and SVG, and report.html; return that.

    Args:
        study: what `summarise` found.
        asked: where the pictures of the examples are read from.
        folder: where it goes.

    Raises:
        MissingExtraError: matplotlib is not installed.
        UsageError: the folder cannot be written.
    """
    try:
        (folder / "study.json").write_text(dumped(study), "utf-8")
        pictures = _examples(study, asked)
        figures = {name: _figures(name, found, pictures, folder) for name, found in study["findings"].items()}
        (folder / "report.html").write_text(page(study, figures), "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {folder} ({error.strerror}); give another --out") from None
    return folder / "report.html"


def dumped(study: Study) -> str:
    """Write a study as JSON."""
    return json.dumps(told(study), indent=1, ensure_ascii=False) + "\n"


def told(study: Study) -> dict[str, Any]:
    """Leave out the attention maps of the examples: they are drawn, and long."""
    findings = {n: {k: v for k, v in found.items() if k != "maps"} for n, found in study["findings"].items()}
    return {**study, "findings": findings}


def page(study: Study, figures: Mapping[str, list[Drawn]]) -> str:
    """Write the page."""
    parts = [
        {
            "name": name,
            "title": TITLES[name],
            "verdict": found["verdict"],
            "figures": [{"caption": f.caption, "svg": f.svg[f.svg.index("<svg") :]} for f in figures[name]],
            "tables": tables.TABLES[name](found),
            "notes": tables.notes(name, found),
        }
        for name, found in study["findings"].items()
    ]
    about = {key: study[key] for key in ("model", "task", "rule", "versions", "machine", "commit", "model_facts")}
    return environment("study").get_template("study.html.j2").render(parts=parts, **about) + "\n"


def _examples(study: Study, asked: Asked) -> dict[str, Image.Image]:
    """Read the pictures that figures show."""
    findings = study["findings"]
    wanted = {one["picture"] for one in findings.get("attention", {}).get("maps", ())}
    wanted |= {one["picture"] for one in findings.get("tiles", {}).get("example", ())}
    return {picture.name: picture.read()[0] for picture in asked.pictures if picture.name in wanted}


def _figures(name: str, found: Study, pictures: Mapping[str, Image.Image], folder: Path) -> list[Drawn]:
    """Draw the figures of one finding; those whose numbers or pictures are missing are left out."""
    wanted: list[tuple[bool, Callable[[], Drawn]]]
    if name == "tiles":
        shown = [line for line in found["example"] if line["picture"] in pictures]
        wanted = [
            (found["questions"] > 0, lambda: tiles.correlation(found, folder)),
            (len(shown) > 1, lambda: tiles.example(shown, pictures[shown[0]["picture"]], folder)),
        ]
    elif name == "attention":
        maps = any(one["picture"] in pictures for one in found["maps"])
        wanted = [
            (maps, lambda: attention.maps(found, pictures, folder)),
            (found["depth"] > 0, lambda: attention.overlap(found, folder)),
            (found["depth"] > 0, lambda: attention.blocks(found, folder)),
        ]
    else:
        wanted = [
            (bool(found["pairs"]), lambda: roles.ways(found, folder)),
            (bool(found["probes"]), lambda: roles.probes(found, folder)),
        ]
    return [paint() for there, paint in wanted if there]
