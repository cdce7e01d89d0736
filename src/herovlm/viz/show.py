"""herovlm.show(): what was kept of a picture, in a notebook, as a page, or as a figure for a paper."""

from __future__ import annotations

import io
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import ExifTags, Image

from herovlm import budget
from herovlm.errors import InputsError, UsageError
from herovlm.pictures import open_picture
from herovlm.types import Short
from herovlm.viz import fragment, geometry, paper
from herovlm.viz.figure import KEPT, figure
from herovlm.viz.fragment import Plate
from herovlm.viz.geometry import Fit
from herovlm.viz.page import put

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AnyImage = str | Path | Image.Image
Name = str | tuple[str, float | int]
VECTORS = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # same drawing, same file


@dataclass(frozen=True)
class Shown:
    """Pictures and what was kept of them, ready to be looked at; a notebook shows it by itself."""

    plates: tuple[Plate, ...]
    pictures: tuple[tuple[str, Image.Image], ...]

    def _repr_html_(self) -> str:
        return str(fragment.render(self.plates, self.pictures))

    def __repr__(self) -> str:
        return "\n".join(f"<{plate.figure.says(KEPT, plate.label or 'the method')}>" for plate in self.plates)

    def figure(self, *, width: float = 7.0, views: Sequence[str] = (KEPT,)) -> Figure:
        """Draw for a paper, with matplotlib: a row for each picture and method, and in it every view.

        Args:
            width: inches; 3.3 is a column of most journals, 7 a page.
            views: "kept patches", "picture" and names of scores (`short.kept[0].why`).

        Raises:
            UsageError: there is no such view.
            MissingExtraError: matplotlib is not installed.
        """
        return paper.draw(self.plates, self.pictures, width=width, views=(views,) if isinstance(views, str) else views)

    def save(
        self, path: str | Path, *, width: float = 7.0, views: Sequence[str] = (KEPT,), dpi: int = paper.DOTS
    ) -> Path:
        """Write a file, whole or not at all: .html is a page with all views, .png, .svg and .pdf are `figure`.

        Args:
            path: where; its ending says what.
            width, views: as for `figure`; a page has all views and the width of its window.
            dpi: pixels an inch of a PNG.

        Raises:
            UsageError: another ending, or no such view.
            MissingExtraError: matplotlib is not installed, and it is not a page.
            OSError: the file cannot be written.
        """
        path = Path(path)
        kind = path.suffix.lower()
        if kind in (".html", ".htm"):
            page = (
                fragment.environment().get_template("shown.html.j2").render(shown=self._repr_html_(), title=path.stem)
            )
            return put(path, page.encode())
        if kind not in (".png", *VECTORS):
            raise UsageError(f"{path.name} has an ending that nothing can be saved as; use .html, .png, .svg or .pdf")
        store = io.BytesIO()
        drawn = self.figure(width=width, views=views)
        with paper.styled():
            drawn.savefig(store, format=kind[1:], dpi=dpi, metadata=VECTORS.get(kind))
        return put(path, store.getvalue())


def show(
    short: Short | Sequence[Short] | Mapping[Name, Short],
    image: AnyImage | Sequence[AnyImage],
    *,
    fit: Fit | None = None,
) -> Shown:
    """Show what was kept of a picture: kept patches lit, dropped ones dark, every score as a map.

    Args:
        short: what `herovlm.drop` returned (or `record.last` of `dropping`).  Several are compared: by name,
            {"hero": a, "random": b}, or by method and keep, {("hero", 0.2): a, ("hero", 0.1): b}.
        image: the picture that went into the processor, or its file, if the model saw it as it is stored; several in
            prompt order.
        fit: how the model makes one tile of a whole picture.  None is what transformers does: LLaVA-NeXT squeezes it,
            and LLaVA-1.5, which has no other tile, crops it; "pad" is for processors with `do_pad`.

    Returns:
        Something that notebooks show, and that saves itself: `.save("kept.html")`, `.save("kept.pdf", width=3.3)`.

    Raises:
        InputsError: other pictures than those that were dropped from.
        PictureError: a file is not a picture.
        UsageError: no or unnamed things to show, or an unknown fit.
    """
    named = _named(short)
    pictures = tuple(_opened(image))
    how_given: Any = fit  # of any type, until it is checked
    if not isinstance(how_given, str | None) or how_given not in (None, "squeeze", "pad", "crop"):
        raise UsageError(f"fit={reprlib.repr(fit)} is unknown; use 'squeeze', 'pad' or 'crop'")
    plates = []
    for name, one in named.items():
        if len(one.kept) != len(pictures):
            raise InputsError(
                f"{len(pictures)} pictures to show, but the prompt has {len(one.kept)}; give all in order"
            )
        method, keep = name if isinstance(name, tuple) else (name, None)
        label = f"{method}, {budget.label(keep)}" if keep is not None else method
        for p, ((_, picture), seen, kept) in enumerate(zip(pictures, one.seen, one.kept, strict=True)):
            geometry.check(picture.size, seen)
            how: Fit = fit or ("squeeze" if any(seen.grid.tiles) or seen.grid.squeezed else "crop")
            whole = kept.positions == seen.positions
            drawn = figure(picture.size, seen, kept, how)
            plates.append(Plate(drawn, p, label, method, None if keep is None or whole else str(keep)))
    return Shown(tuple(plates), pictures)


def _named(short: Any) -> Mapping[Name, Short]:
    """Give a name to each of what shall be shown."""
    if isinstance(short, Short):
        return {"": short}
    if isinstance(short, Sequence) and not isinstance(short, str):
        short = {f"{i + 1}": one for i, one in enumerate(short)}
    if (
        not isinstance(short, Mapping)
        or not short
        or not all(isinstance(one, Short) for one in short.values())
        or not all(isinstance(name, str) or (isinstance(name, tuple) and len(name) == 2) for name in short)
    ):
        raise UsageError('show() takes what herovlm.drop returned, or several of them by name: {"hero": short, ...}')
    return short


def _opened(image: Any) -> list[tuple[str, Image.Image]]:
    """Name and open pictures."""
    images = list(image) if isinstance(image, list | tuple) else [image]
    return [_picture(number, one) for number, one in enumerate(images, 1)]


def _picture(number: int, image: Any) -> tuple[str, Image.Image]:
    """Name and open a picture; a file that is stored turned may have been seen either way.

    Raises:
        InputsError: it is stored turned.
        PictureError: it is not a picture.
    """
    if isinstance(image, Image.Image):
        return f"picture {number}", image.convert("RGB")
    picture = open_picture(image)
    try:
        with Image.open(image) as stored:
            turned = stored.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)
    except Exception:  # broken EXIF turns nothing
        turned = False
    if turned:
        raise InputsError(
            f"{image} is stored turned (EXIF), and nobody knows which way the model saw it; give the picture that went "
            "into the processor: Image.open(path) as it is stored, or herovlm.pictures.open_picture(path) upright"
        )
    return Path(image).name, picture
