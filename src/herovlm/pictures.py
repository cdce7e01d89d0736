"""Open a picture file as a person would see it: upright, on white, eight bits a colour, and never a trap."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from herovlm.errors import PictureError

LIMIT = 100_000_000  # pixels; more is refused from the header, before anything is decoded

# Raster formats that Pillow decodes itself and knows by their first bytes: no PostScript, no metafiles, no TGA.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000", "QOI")


def open_picture(path: str | Path, *, limit: int = LIMIT) -> Image.Image:
    """Open the picture at `path` as an upright RGB image.

    EXIF rotation is applied, transparency is laid on white, 16-bit and float values are scaled (not clipped),
    and an animation gives its first frame.  `limit` is in pixels and is checked before anything is decoded.

    Raises:
        PictureError: there is no such file, or it is not a whole picture of a known format within the limit.
    """
    if str(path).startswith(("http://", "https://")):
        raise PictureError(f"{path} is a web address; download the picture and give the path of the file")
    path = Path(path)
    _check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our limit replaces Pillow's warning
            with Image.open(path, formats=_formats()) as image:
                _check_size(path, image, limit)
                return _as_rgb(_upright(image))
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"{path} is not a picture that can be read; give a file of {_names()}") from None
    except Image.DecompressionBombError:
        raise PictureError(f"{path} has far more than {limit:,} pixels; make it smaller first") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on broken data
        raise PictureError(f"{path} is broken or cut off ({_cause(error)}); save or download it again") from error


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise PictureError(f"{path} is a directory; give a picture file in it")
        if not path.exists():
            raise PictureError(f"there is no file {path}; check the path (it is read from the current directory)")
        if not path.is_file():
            raise PictureError(f"{path} is not a regular file; give a picture file")
        if path.stat().st_size == 0:
            raise PictureError(f"{path} is empty (0 bytes); save or download the picture again")
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        if isinstance(error, PictureError):  # PictureError is a ValueError
            raise
        raise PictureError(f"{path} cannot be opened ({_cause(error)}); check the path and its permissions") from None


def _check_size(path: Path, image: Image.Image, limit: int) -> None:
    width, height = image.size
    if width * height > limit:
        raise PictureError(
            f"{path} has {width:,} x {height:,} = {width * height:,} pixels, more than the limit of {limit:,}; "
            "make it smaller first (the model reads far fewer)"
        )


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF says nothing about the pixels: show them as they are
        return image


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Scale one grey channel to 0..255 by what its type can hold, or by its own range where that is unknown."""
    grey = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(grey.min()), float(grey.max())
    full = 65535.0 if mode.startswith("I") else (1.0 if high <= 1.0 else 255.0)
    if low < 0.0 or high > full:
        grey, full = grey - low, (high - low) or 1.0
    return np.round(grey * (255.0 / full)).astype(np.uint8)


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _names() -> str:
    names = _formats()
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _cause(error: BaseException) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
