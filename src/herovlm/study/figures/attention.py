"""Figures of finding 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from herovlm.study.figures.base import EARLY, GREY, LATE, Drawn, Numbers, draw, quiet

if TYPE_CHECKING:
    from PIL import Image

SHOWN = 12  # blocks side by side
COLOURS = {"thumbnail": LATE, "local": EARLY}
LABELS = {"thumbnail": "thumbnail", "local": "local tiles"}
PANELS = {"foreground": "share of attention on foreground", "norm": "norm rank of what is looked at", "entropy": ""}
PANELS["entropy"] = "entropy, 1 = evenly everywhere"


def maps(found: Numbers, pictures: Mapping[str, Image.Image], folder: Path) -> Drawn:
    """Draw the CLS attention of every block (or of twelve of them) on the example pictures."""
    examples = [one for one in found["maps"] if one["picture"] in pictures]
    blocks = [round(b) for b in np.linspace(0, found["depth"] - 1, min(SHOWN, found["depth"]))]
    rows = [(one, part) for one in examples for part in _parts(one)]

    def paint(figure: Any) -> None:
        heights = [one["grid"][0] / one["grid"][1] if part == "local" else 1 for one, part in rows]
        grid = figure.subplots(len(rows), len(blocks) + 1, squeeze=False, height_ratios=heights)
        for number, (line, (one, part)) in enumerate(zip(grid, rows, strict=True)):
            shown = one["grid"] if part == "local" else [1, 1]
            line[0].imshow(_photo(pictures[one["picture"]], shown, part))
            line[0].set_ylabel(part, fontsize=8)
            for axes, block in zip(line[1:], blocks, strict=True):
                axes.imshow(_laid(one, block, part), cmap="magma", vmin=0, vmax=1)
                axes.set_title(f"block {block}" if number == 0 else "", fontsize=7.5)
            for axes in line:
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)

    caption = (
        "CLS attention, mean over heads: bright is what it looks at most in that block, of the "
        "thumbnail or of all local tiles."
    )
    height = sum(one["grid"][0] / one["grid"][1] if part == "local" else 1 for one, part in rows)
    return draw(folder, "attention-maps", caption, (11.5, 0.4 + 0.92 * height), paint)


def overlap(found: Numbers, folder: Path) -> Drawn:
    """Draw how alike the top tokens of any two blocks are."""

    def paint(figure: Any) -> None:
        panels = figure.subplots(1, len(found["parts"]), squeeze=False)[0]
        others = [np.array(v["overlap"])[~np.eye(found["depth"], dtype=bool)] for v in found["parts"].values()]
        most = max([float(other.max()) for other in others if len(other)] or [1.0])  # the diagonal is 1 anyway
        for axes, (part, values) in zip(panels, found["parts"].items(), strict=True):
            shown = axes.imshow(values["overlap"], cmap="viridis", vmin=0, vmax=most)
            axes.set_title(LABELS[part], loc="left", fontweight="bold")
            axes.set_xlabel("block")
            axes.set_ylabel("block")
            axes.set_xticks(range(0, found["depth"], 1 + (found["depth"] - 1) // SHOWN))
            axes.set_yticks(range(0, found["depth"], 1 + (found["depth"] - 1) // SHOWN))
            if found["suggested"]:
                switch = found["suggested"]["switch"] - 0.5
                axes.axhline(switch, color="white", linewidth=1.2)
                axes.axvline(switch, color="white", linewidth=1.2)
        figure.colorbar(shown, ax=list(panels), label="intersection over union", shrink=0.9)

    caption = "How many of the top tokens (a tenth of a tile) two blocks have in common. White lines: the switch found."
    return draw(folder, "attention-overlap", caption, (8.6, 3.7), paint)


def blocks(found: Numbers, folder: Path) -> Drawn:
    """Draw foreground share, norm rank and entropy over the blocks."""
    parts = found["parts"]
    names = [name for name in PANELS if any(name in values for values in parts.values())]

    def paint(figure: Any) -> None:
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            for part, values in parts.items():
                axes.plot(values[name], color=COLOURS[part], marker="o", markersize=3.5, label=LABELS[part])
                if name == "foreground":
                    chance = {"linestyle": ":", "linewidth": 1.2, "label": f"share of patches, {LABELS[part]}"}
                    axes.plot(values["area"], color=COLOURS[part], **chance)
                if name == "norm" and "background_norm" in values:
                    style = {"linestyle": "--", "linewidth": 1, "label": f"in the background, {LABELS[part]}"}
                    axes.plot(values["background_norm"], color=COLOURS[part], **style)
            _stages(axes, found)
            axes.set_title(PANELS[name], fontsize=9, loc="left")
            axes.set(ylim=(0, 1.04), xlabel="block")
            quiet(axes)
        handles: dict[str, Any] = {}
        for axes in figure.axes:
            handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)

    caption = (
        "What the CLS token looks at, block by block. Grey line: the switch found; triangles at the foot: HERO's "
        "default blocks, orange for local tiles, blue for the thumbnail."
    )
    return draw(folder, "attention-blocks", caption, (3.7 * len(names), 3.6), paint)


def _stages(axes: Any, found: Numbers) -> None:
    if found["suggested"]:
        axes.axvline(found["suggested"]["switch"] - 0.5, color=GREY, linewidth=1)
    for stage, colour in (("early", EARLY), ("late", LATE)):
        at = found["defaults"][stage]
        axes.plot(at, [0.02] * len(at), "^", color=colour, markersize=7, clip_on=False)


def _parts(one: Numbers) -> list[str]:
    """List what there is to draw of a picture: the thumbnail, the local tiles, or both."""
    local = int(np.prod(one["grid"]))
    return ["thumbnail"] * (len(one["valid"]) > local) + ["local"] * (local > 0)


def _laid(one: Numbers, block: int, part: str) -> Any:
    """Lay the maps of a block out as the tiles lie, 0..1; padding is nan."""
    rows, side = np.array(one["rows"][block], dtype=np.float64) / 255, one["side"]
    rows[~np.array(one["valid"], dtype=bool)] = np.nan
    if part == "thumbnail":
        return rows[0].reshape(side, side)
    down, across = one["grid"]
    return rows[-down * across :].reshape(down, across, side, side).swapaxes(1, 2).reshape(down * side, across * side)


def _photo(image: Image.Image, grid: Sequence[int], part: str) -> Image.Image:
    """The picture as its tiles show it."""
    from PIL import Image as Images

    if part == "thumbnail":
        return image.convert("RGB").resize((256, 256))
    down, across = grid
    canvas = Images.new("RGB", (across * 256, down * 256), (217, 214, 205))
    scale = min(canvas.width / image.width, canvas.height / image.height)
    fitted = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)))
    canvas.paste(fitted, ((canvas.width - fitted.width) // 2, (canvas.height - fitted.height) // 2))
    return canvas
